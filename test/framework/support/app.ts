/** An app on the framework, as its author has it: its own two processes, on a local chain, beside a simulated agent. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Interface, Wallet } from 'ethers';
import { appNamed } from '../../../cli/agent/app.ts';
import { type SimulatedAgent, serveAgent } from '../../../cli/agent/serve.ts';
import { compileApp } from '../../../cli/dev/compile.ts';
import { deployApp, type LocalNetwork, localNetwork } from '../../../cli/dev/local-network.ts';
import { Chain } from '../../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../../contracts/local-node.ts';
import { decodeProgress, PROGRESS_CALL, type Progress } from '../../../lib/framework/app/answer.ts';
import type { Address } from '../../../lib/protocol/hex.ts';
import { freePort } from '../../support/free-port.ts';

const templates = join(import.meta.dirname, '../../../templates');
export const TEMPLATE = join(templates, 'ping-pong');

export interface App {
  readonly anvil: Anvil;
  readonly chain: Chain;
  readonly network: LocalNetwork;
  readonly agent: SimulatedAgent;
  readonly contract: Address;
  readonly folder: string;
  readonly enclaveUrl: string;
  env: Record<string, string>;
  /** Calls the contract. @param from the chain's first account by default */
  send(name: string, args?: readonly unknown[], options?: { from?: string; wei?: bigint }): Promise<void>;
  progress(): Promise<Progress>;
  /** What the contract said, in order. */
  events(names: readonly string[]): Promise<{ name: string; args: readonly unknown[] }[]>;
  start(which: 'enclave' | 'host'): Process;
  log(): string;
  stop(): Promise<void>;
}

export interface Process {
  kill(signal?: NodeJS.Signals): Promise<void>;
}

export interface PingPong extends App {
  /** From the chain's first account. */
  ping(text: string): Promise<void>;
  pongs(): Promise<{ sequence: number; text: string }[]>;
}

export async function startPingPong(): Promise<PingPong> {
  const app = await startApp('ping-pong');
  return Object.assign(app, {
    ping: (text: string) => app.send('ping', [text]),
    pongs: async () =>
      (await app.events(['Pong', 'Declined'])).map(({ name, args }) => ({
        sequence: Number(args[0]),
        text: name === 'Pong' ? String(args[2]) : ascii(String(args[2])),
      })),
  });
}

const compiled = new Map<string, ReturnType<typeof compileApp>>();

/** @param name of the template */
export async function startApp(name: string): Promise<App> {
  const folder = mkdtempSync(join(tmpdir(), `dstack-${name}-`));
  const template = join(templates, name);
  const { bytecode, abi: itsAbi } = compiled.get(name) ?? compileApp(join(template, 'contracts'), 'App.sol');
  compiled.set(name, { bytecode, abi: itsAbi });
  const anvil = await startAnvil({ args: ['--slots-in-an-epoch', '1'] });
  const chain = new Chain(anvil.url);
  const secret = randomBytes(32);
  const network = await localNetwork(anvil.url, secret);
  const quiet = { debug: () => {}, warn: () => {} };
  const data = join(folder, 'a');
  mkdirSync(data);
  const agent = await serveAgent({ app: appNamed(name), node: network.node, data, log: quiet });
  const { contract, block } = await deployApp(anvil.url, network, name, bytecode);
  const gas = Wallet.createRandom();
  await chain.rpc('anvil_setBalance', gas.address, '0x8ac7230489e80000');
  writeFileSync(join(folder, 'gas.key'), gas.privateKey);
  const port = await freePort();
  const abi = new Interface(itsAbi as never);
  const running = new Set<ChildProcess>();
  const logFile = join(folder, 'log');
  const log = openSync(logFile, 'a');
  const self: App = {
    anvil,
    chain,
    network,
    agent,
    contract,
    folder,
    enclaveUrl: `http://127.0.0.1:${port}`,
    env: {
      CHAIN_ID: String(network.chainId),
      APP_CONTRACT: contract,
      ENCLAVE_PORT: String(port),
      ENCLAVE_HOST: '127.0.0.1',
      ENCLAVE_DATA: join(folder, 'enclave'),
      RPC_URL: anvil.url,
      GAS_KEY_FILE: join(folder, 'gas.key'),
      ENCLAVE_URL: `http://127.0.0.1:${port}`,
      HOST_DATA: join(folder, 'host'),
      START_BLOCK: String(block),
      CONFIRMATIONS: '0',
      POLL_MS: '100',
      DSTACK_SIMULATOR_ENDPOINT: agent.socket,
    },
    async send(call, args = [], { from = network.owner, wei = 0n } = {}) {
      const data = abi.encodeFunctionData(call, args);
      const value = `0x${wei.toString(16)}`;
      const receipt = await chain.rpc<{ status: string }>('eth_sendTransactionSync', {
        ...{ from, to: contract, data, value, gas: '0x989680' },
      });
      if (receipt.status !== '0x1') throw new Error(`${call} is refused`);
    },
    progress: async () => decodeProgress(await chain.call(contract, PROGRESS_CALL)),
    async events(names) {
      const topics = [names.map((one) => abi.getEvent(one)!.topicHash)];
      const logs = await chain.rpc<{ topics: string[]; data: string }[]>('eth_getLogs', {
        ...{ address: contract, fromBlock: '0x0', toBlock: 'latest', topics },
      });
      return logs.map((log) => {
        const { name: event, args } = abi.parseLog(log)!;
        return { name: event, args };
      });
    },
    start(which) {
      const child = spawn(process.execPath, [join(template, which, 'main.ts')], {
        env: { ...process.env, ...self.env },
        // What it says goes there by itself: nothing of it is on its way when the folder goes.
        stdio: ['ignore', log, log],
      });
      running.add(child);
      return {
        async kill(signal = 'SIGKILL') {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const gone = once(child, 'exit');
          child.kill(signal);
          await gone;
          running.delete(child);
        },
      };
    },
    log: () => readFileSync(logFile, 'utf8'),
    async stop() {
      await Promise.all(
        [...running].map(async (child) => {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const gone = once(child, 'exit');
          child.kill('SIGKILL');
          await gone;
        }),
      );
      await agent.close();
      await anvil.stop();
      closeSync(log);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return self;
}

const ascii = (word: string): string =>
  Buffer.from(word.slice(2), 'hex').toString('latin1').replace(/\0+$/, '');
