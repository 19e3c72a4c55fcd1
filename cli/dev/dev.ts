/**
 * `dstack dev`: all that an app needs, on this machine and in one process tree: a local chain with a network on it, a simulated node's agent, the
 * app's contract, its enclave and its host. Each start is a new chain; nothing of it stays.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { execa } from 'execa';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { print, printError, printFailure } from '../../lib/daemon/terminal.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { DstackError, messageOf } from '../../lib/protocol/errors.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { appNamed } from '../agent/app.ts';
import { type SimulatedAgent, serveAgent } from '../agent/serve.ts';
import { AppProcesses, PROCESSES, type ProcessName } from './app-processes.ts';
import { compileApp } from './compile.ts';
import { deployApp, type LocalNetwork, localNetwork } from './local-network.ts';

/** Ten ether. */
const GAS_MONEY = '0x8ac7230489e80000';
/** Between a change of a file and what it leads to: editors write more than once. Milliseconds. */
const SETTLE_MS = 200;

export interface Dev {
  /** What the app's processes and tests are told. */
  env(): NodeJS.ProcessEnv;
  /** Runs the app's own tests. @param stopped ends them. @returns their exit code */
  test(stopped: AbortSignal): Promise<number>;
  stop(): Promise<void>;
}

export interface DevOptions {
  /** The app's folder. */
  readonly folder: string;
  readonly app: string;
  /** Of the enclave, on the loopback. */
  readonly port: number;
}

/** @throws DEV_PORT, SOLC_FAILED, and what the parts throw that it starts */
export async function startDev({ folder, app, port }: DevOptions): Promise<Dev> {
  await assertFree(port);
  const state = mkdtempSync(join(tmpdir(), 'dstack-dev-'));
  const open: { anvil?: Anvil; agent?: SimulatedAgent; close?: () => void } = {};
  const processes = new AppProcesses(folder);
  let deployed: Awaited<ReturnType<typeof deploy>>;
  let deployments = 0;

  async function stop(): Promise<void> {
    open.close?.();
    await processes.stop();
    await open.agent?.close();
    await open.anvil?.stop();
    rmSync(state, { recursive: true, force: true });
  }

  async function deploy(url: string, network: LocalNetwork) {
    const { bytecode } = compileApp(join(folder, 'contracts'), 'App.sol');
    const at = await deployApp(url, network, app, bytecode);
    deployments += 1;
    print(`contract     ${at.contract}`);
    return at;
  }

  try {
    const anvil = await startAnvil();
    open.anvil = anvil;
    const network = await localNetwork(anvil.url, randomBytes(32));
    mkdirSync(join(state, 'agent'));
    const log = { debug: () => {}, warn: refused };
    open.agent = await serveAgent({
      app: appNamed(app),
      node: network.node,
      data: join(state, 'agent'),
      log,
    });
    const key = newPrivateKey();
    writeFileSync(join(state, 'gas.key'), to0x(key), { mode: 0o600 });
    await new Chain(anvil.url).rpc('anvil_setBalance', addressOf(key), GAS_MONEY);
    print(`chain        ${anvil.url}, chain id ${network.chainId}`, `network      ${network.contract}`);
    deployed = await deploy(anvil.url, network);
    const env = (): NodeJS.ProcessEnv => ({
      ...process.env,
      CHAIN_ID: String(network.chainId),
      APP_CONTRACT: deployed.contract,
      // Its node reads the chain.
      RPC_URLS: '',
      RPC_URL: anvil.url,
      ENCLAVE_HOST: '127.0.0.1',
      ENCLAVE_PORT: String(port),
      ENCLAVE_URL: `http://127.0.0.1:${port}`,
      // Another contract's state is of no use.
      ENCLAVE_DATA: join(state, `enclave-${deployments}`),
      HOST_DATA: join(state, `host-${deployments}`),
      GAS_KEY_FILE: join(state, 'gas.key'),
      START_BLOCK: String(deployed.block),
      CONFIRMATIONS: '0',
      POLL_MS: '200',
      DSTACK_SIMULATOR_ENDPOINT: open.agent!.socket,
    });
    const restart = async (names: readonly ProcessName[]) => {
      for (const name of names) await processes.restart(name, env());
    };
    await restart(PROCESSES);
    open.close = onChange(folder, async (changed) => {
      if (changed.has('contracts')) deployed = await deploy(anvil.url, network);
      const one = PROCESSES.filter((name) => changed.has(name));
      // What is in neither folder may be of both.
      const names = changed.size === one.length ? one : PROCESSES;
      print(`changed: ${[...changed].join(', ')}; starting ${names.join(' and ')} again`);
      await restart(names);
    });
    return {
      env,
      stop,
      async test(stopped) {
        const tests = await execa(process.execPath, ['--test', 'test/**/*.test.ts'], {
          ...{ cwd: folder, env: env(), reject: false, stdio: 'inherit', cancelSignal: stopped },
        });
        return tests.exitCode ?? 1;
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Another app's enclave there would be asked in place of this one. @throws DEV_PORT */
async function assertFree(port: number): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', resolve);
    });
  } catch (cause) {
    const why = `the enclave can't listen on port ${port} (${messageOf(cause)}): name another one with --port`;
    throw new DstackError('DEV_PORT', why, { cause });
  }
  await new Promise((resolve) => server.close(resolve));
}

/** Tells which folders of the app have changed, by their names; one telling after the other. @returns ends it */
function onChange(folder: string, told: (changed: ReadonlySet<string>) => Promise<void>): () => void {
  const changed = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let telling: Promise<void> = Promise.resolve();
  const watcher = watch(folder, { recursive: true }, (_, name) => {
    const [top, ...rest] = (name ?? '').split(sep);
    if (top === undefined || !/\.(ts|sol)$/.test(name ?? '') || IGNORED.includes(top)) return;
    changed.add(rest.length === 0 ? '.' : top);
    clearTimeout(timer);
    timer = setTimeout(() => {
      const these = new Set(changed);
      changed.clear();
      // A contract that does not compile is told, and the app goes on as it was.
      telling = telling.then(() => told(these)).catch((error) => printFailure('dstack dev', error));
    }, SETTLE_MS);
  });
  watcher.on('error', (error) => printError(`changes are not seen any more: ${(error as Error).message}`));
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}

/** Folders whose changes mean nothing to what runs. */
const IGNORED: readonly string[] = ['node_modules', 'test', 'vendor', '.git'];

const refused = (fields: object, message: string): void =>
  printError(`agent: ${message} (${(fields as { code?: string }).code ?? 'no code'})`);
