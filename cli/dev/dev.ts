/**
 * `dstack dev`: all that an app needs, on this machine and in one process tree: a local chain with a network on it, a simulated node's agent, the
 * app's contract, its enclave and its host. Each start is a new chain; nothing of it stays.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { print, printError } from '../../lib/daemon/terminal.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { DstackError, messageOf } from '../../lib/protocol/errors.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { appNamed } from '../agent/app.ts';
import { type SimulatedAgent, serveAgent } from '../agent/serve.ts';
import { assertReadable } from './app-folder.ts';
import { AppProcesses, PROCESSES, type ProcessName, QUIETLY } from './app-processes.ts';
import { onChange } from './changes.ts';
import { compileApp } from './compile.ts';
import { Guard } from './guard.ts';
import { deployApp, type LocalNetwork, localNetwork } from './local-network.ts';
import { anvilOf } from './tools.ts';

/** Ten ether. */
const GAS_MONEY = '0x8ac7230489e80000';

export interface Dev {
  /** What the app's processes and tests are told. */
  env(): NodeJS.ProcessEnv;
  /** Runs the app's own tests. @param stopped ends them. @returns their exit code */
  test(stopped: AbortSignal): Promise<number>;
  /** Resolves with why it can't go on. */
  readonly failed: Promise<DstackError>;
  stop(): Promise<void>;
}

export interface DevOptions {
  /** The app's folder. */
  readonly folder: string;
  readonly app: string;
  /** Of the enclave, on the loopback. */
  readonly port: number;
  /** Ends it before it runs, with nothing left. */
  readonly stopped?: AbortSignal;
}

/** @throws DEV_PORT, DEV_TOOL, DEV_SOURCE, SOLC_FAILED, INTERRUPTED, and what the parts throw that it starts */
export async function startDev({ folder, app, port, stopped }: DevOptions): Promise<Dev> {
  await assertFree(port);
  assertReadable(folder);
  const anvilProgram = anvilOf(folder);
  const state = mkdtempSync(join(tmpdir(), 'dstack-dev-'));
  const guard = new Guard(state);
  const open: { anvil?: Anvil; agent?: SimulatedAgent; close?: () => void } = {};
  const processes = new AppProcesses(folder, guard);
  let deployed: Awaited<ReturnType<typeof deploy>>;
  let deployments = 0;
  let isStopping = false;

  async function stop(): Promise<void> {
    isStopping = true;
    open.close?.();
    await processes.stop();
    await open.agent?.close();
    await open.anvil?.stop();
    guard.close();
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
    const anvil = await startAnvil({ program: anvilProgram });
    open.anvil = anvil;
    guard.add(anvil.pid);
    stopped?.throwIfAborted();
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
    stopped?.throwIfAborted();
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
      assertReadable(folder);
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
      async test(ended) {
        const tests = execa(process.execPath, [QUIETLY, '--test', 'test/**/*.test.ts'], {
          ...{ cwd: folder, env: env(), reject: false, stdio: 'inherit', cancelSignal: ended },
        });
        guard.add(tests.pid);
        const { exitCode } = await tests;
        guard.remove(tests.pid);
        return exitCode ?? 1;
      },
      failed: anvil.gone.then(() =>
        isStopping
          ? new Promise<never>(() => {})
          : new DstackError('DEV_CHAIN', 'the local chain has ended: start dev again'),
      ),
    };
  } catch (error) {
    await stop();
    // Ctrl-C in a terminal also ends the chain, of which the next step then says that it is not there.
    if (stopped?.aborted) throw new DstackError('INTERRUPTED', 'stopped before the app ran');
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

const refused = (fields: object, message: string): void =>
  printError(`agent: ${message} (${(fields as { code?: string }).code ?? 'no code'})`);
