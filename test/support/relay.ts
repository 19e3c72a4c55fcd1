/** A relay as a separate process, so that it can be killed, watched dying, and restarted on the same files. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RelayStatus } from '../../host/relay/main.ts';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { freePort } from './free-port.ts';
import { eventually, node24 } from './network.ts';

const MAIN = join(import.meta.dirname, '../../host/relay/main.ts');

export interface RelayHostOptions {
  rpcUrl: string;
  domain: { chainId: number; contract: Address };
  nodeUrl: string;
  /** Left out: its node has no website. */
  siteUrl?: string;
  /** Created, with a new gas key if there is none in it. */
  stateDir: string;
  peers?: readonly string[];
  /** Further settings, over those that a test wants by default. */
  settings?: Readonly<Record<string, string>>;
}

/** What outlives a relay's process: its files, its key and its ports. */
export class RelayHost {
  readonly gasKey: Uint8Array;
  readonly gasAddress: Address;
  readonly gossipUrl: string;
  readonly adminUrl: string;
  readonly #options: RelayHostOptions;
  readonly #said: string[] = [];
  #process: ChildProcess | undefined;

  private constructor(options: RelayHostOptions, gossip: number, admin: number) {
    this.#options = options;
    const keyFile = join(options.stateDir, 'gas.key');
    this.gasKey = existsSync(keyFile) ? fromHex(readFileSync(keyFile, 'utf8'), 32) : newPrivateKey();
    this.gasAddress = addressOf(this.gasKey);
    this.gossipUrl = `http://127.0.0.1:${gossip}`;
    this.adminUrl = `http://127.0.0.1:${admin}`;
    mkdirSync(options.stateDir, { recursive: true });
    writeFileSync(keyFile, to0x(this.gasKey), { mode: 0o600 });
  }

  /** Not started yet, and the key has no money. */
  static async create(options: RelayHostOptions): Promise<RelayHost> {
    return new RelayHost(options, await freePort(), await freePort());
  }

  /** The running process, or the last one. */
  get process(): ChildProcess {
    if (this.#process === undefined) throw new Error('the relay was never started');
    return this.#process;
  }

  get running(): boolean {
    return (
      this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
    );
  }

  /** What all its processes printed. */
  log(): string {
    return this.#said.join('');
  }

  /** Starts the process and does not wait for it. @param how further arguments of Node itself, and environment */
  start(how: { execArgv?: readonly string[]; env?: Readonly<Record<string, string>> } = {}): ChildProcess {
    const { rpcUrl, domain, nodeUrl, siteUrl, stateDir, peers = [], settings = {} } = this.#options;
    const child = spawn(node24, [...(how.execArgv ?? []), MAIN, '--key-file', join(stateDir, 'gas.key')], {
      env: {
        DSTACK_RPC_URL: rpcUrl,
        DSTACK_CHAIN_ID: String(domain.chainId),
        DSTACK_CONTRACT: domain.contract,
        DSTACK_NODE_URL: nodeUrl,
        DSTACK_SITE_URL: siteUrl ?? 'https://127.0.0.1:1',
        DSTACK_STATE_DIR: stateDir,
        DSTACK_GOSSIP_LISTEN: new URL(this.gossipUrl).host,
        DSTACK_GOSSIP_PEERS: peers.join(','),
        DSTACK_ADMIN_LISTEN: new URL(this.adminUrl).host,
        DSTACK_CONFIRMATIONS: '0',
        DSTACK_POLL_MS: '100',
        ...(process.env.NODE_COMPILE_CACHE === undefined
          ? {}
          : { NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE }),
        ...settings,
        ...how.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => this.#said.push(String(chunk)));
    this.#process = child;
    return child;
  }

  /** Resolves once it serves. */
  async serves(): Promise<void> {
    await eventually(async () => {
      if (!this.running) throw new Error(`the relay ended: ${this.log()}`);
      return (await fetch(`${this.adminUrl}/v1/status`)).ok;
    }, 'the relay to serve');
  }

  async status(): Promise<RelayStatus> {
    const signal = AbortSignal.timeout(60_000);
    return (await (await fetch(`${this.adminUrl}/v1/status`, { signal })).json()) as RelayStatus;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    if (!this.running) return;
    const gone = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await gone;
  }
}

/** A running relay. */
export type RelayProcess = Pick<RelayHost, 'gossipUrl' | 'adminUrl' | 'process' | 'log' | 'kill'>;

/** Starts a relay with a funded gas key, the one in its state directory if there is one; resolves once it serves. */
export async function startRelay(options: {
  /** Where its gas key gets its balance: an anvil. */
  chain: { rpc(method: string, ...params: unknown[]): Promise<unknown> };
  rpcUrl: string;
  network: { domain: { chainId: number }; address: Address };
  guest: { url: string };
  stateDir: string;
  peers?: readonly string[];
}): Promise<RelayProcess> {
  const { network, guest, chain, ...rest } = options;
  const domain = { ...network.domain, contract: network.address };
  const host = await RelayHost.create({ ...rest, domain, nodeUrl: guest.url });
  await chain.rpc('anvil_setBalance', host.gasAddress, '0x8ac7230489e80000');
  host.start();
  await host.serves();
  return host;
}
