/**
 * The environment of every round: a chain with a block every 150 ms, a network with a first node, and hosts, each a real
 * replicator on the simulated platform with a relay beside it, all of them separate processes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type NodeSetting, startTestNetwork, type TestNetwork, type TestNode } from '../support/network.ts';
import { RelayHost } from '../support/relay.ts';
import { Random } from './random.ts';

const BLOCK_MS = 150;
const KILL_POINT = new URL('./kill-point.ts', import.meta.url).pathname;
/** A join takes a few seconds; this allows for a busy machine. */
const PATIENCE_MS = 90_000;

export interface Host {
  readonly name: string;
  readonly node: TestNode;
  readonly relay: RelayHost;
}

export interface HostOptions {
  role?: NodeSetting['role'];
  peers?: readonly Host[];
  /** In front of the chain, for the relay only. */
  rpcUrl?: string;
  settings?: Readonly<Record<string, string>>;
}

/** What a round did, for the report. */
export interface Counts {
  kills: number;
  reorgs: number;
  races: number;
  spikes: number;
  lies: number;
  /** Messages, registrations and connections of strangers. */
  strangers: number;
}

export class Arena {
  readonly random: Random;
  /** Of the usual amount of trouble. */
  readonly scale: number;
  readonly network: TestNetwork;
  readonly hosts: Host[] = [];
  readonly counts: Counts = { kills: 0, reorgs: 0, races: 0, spikes: 0, lies: 0, strangers: 0 };
  /** The last block that no re-org may touch: the owner's part. */
  ground = 0;
  #mining = true;
  #stopped = false;
  #miner: Promise<void> = Promise.resolve();
  #names = 0;
  /** Long-running trouble, which `calm` ends. */
  readonly #troubles: Promise<void>[] = [];
  #calm = false;

  private constructor(seed: number, network: TestNetwork, scale: number) {
    this.random = new Random(seed);
    this.scale = scale;
    this.network = network;
  }

  static async open(seed: number, scale = 1): Promise<Arena> {
    return new Arena(seed, await startTestNetwork({ requestWindow: 250 }), scale);
  }

  /** That share of the usual number; at least one. */
  some(usual: number): number {
    return Math.max(1, Math.round(usual * this.scale));
  }

  rpc<T>(method: string, ...params: unknown[]): Promise<T> {
    return this.network.rpc.send(method, params) as Promise<T>;
  }

  async head(): Promise<number> {
    return Number(await this.rpc<string>('eth_blockNumber'));
  }

  /** From here on blocks are mined at intervals, as on a real chain, and not with each transaction. */
  async startBlocks(): Promise<void> {
    await this.rpc('evm_setAutomine', false);
    this.ground = await this.head();
    this.#miner = this.#mine();
  }

  async #mine(): Promise<void> {
    while (!this.#stopped) {
      if (this.#mining) await this.rpc('evm_mine').catch(() => {});
      await sleep(BLOCK_MS);
    }
  }

  /** Runs `act` while no block is mined. */
  async withoutBlocks<T>(work: () => Promise<T>): Promise<T> {
    this.#mining = false;
    try {
      return await work();
    } finally {
      this.#mining = true;
    }
  }

  /** Boots a node and prepares its relay, which is not started. */
  async host(options: HostOptions = {}): Promise<Host> {
    const { network } = this;
    const name = 'ABCDEFGHIJ'[this.#names++]!;
    const node = await network.start({ role: options.role ?? 'join' });
    const relay = await RelayHost.create({
      rpcUrl: options.rpcUrl ?? network.anvil.url,
      domain: network.domain,
      nodeUrl: node.url,
      stateDir: `${network.directory}/relay-${name}`,
      peers: (options.peers ?? []).map((peer) => peer.relay.gossipUrl),
      settings: { DSTACK_FEE_BUMP_SECONDS: '2', DSTACK_CONFIRMATIONS: '1', ...options.settings },
    });
    const host = { name, node, relay };
    this.hosts.push(host);
    await this.fund();
    return host;
  }

  /** Gives every gas key ten ether. */
  async fund(): Promise<void> {
    for (const { relay } of this.hosts)
      await this.rpc('anvil_setBalance', relay.gasAddress, '0x8ac7230489e80000');
  }

  /** A first node that has bootstrapped, everything allowed, blocks running. */
  async firstHost(settings?: Readonly<Record<string, string>>): Promise<Host> {
    const host = await this.host({ role: 'bootstrap', ...(settings && { settings }) });
    await this.network.allow(host.node);
    await this.network.bootstrap(host.node);
    await this.startBlocks();
    return host;
  }

  /** Starts a relay that dies at that kill point; undefined lets it live. */
  start(host: Host, killAt?: number): void {
    if (killAt === undefined) host.relay.start();
    else host.relay.start({ execArgv: ['--import', KILL_POINT], env: { TORTURE_KILL_AT: String(killAt) } });
  }

  /**
   * Lets a relay live one life, of `killAt` points. True when it died there; false when it outlived `withinMs` or what it
   * was for was done, and was left running.
   */
  async life(host: Host, killAt: number, done: () => Promise<boolean>, withinMs = 8_000): Promise<boolean> {
    await host.relay.kill();
    this.start(host, killAt);
    const deadline = Date.now() + withinMs;
    while (host.relay.running && Date.now() < deadline) {
      if (await done().catch(() => false)) break;
      await sleep(50);
    }
    if (host.relay.running) return false;
    if (host.relay.process.signalCode !== 'SIGKILL')
      throw new Error(`a relay ended by itself: ${tail(host)}`);
    this.counts.kills += 1;
    return true;
  }

  /** Does `act` again and again, at random times, until it is ended or the arena calms down. */
  trouble(everyMs: [number, number], act: () => Promise<void>): { end(): Promise<void> } {
    let ended = false;
    const running = (async () => {
      while (!this.#calm && !ended) {
        await sleep(this.random.between(...everyMs));
        if (!this.#calm && !ended) await act();
      }
    })();
    this.#troubles.push(running);
    const end = () => {
      ended = true;
      return running;
    };
    return { end };
  }

  /** Ends all trouble; every relay runs afterwards. @throws what went wrong in one */
  async calm(): Promise<void> {
    this.#calm = true;
    await Promise.all(this.#troubles);
    for (const host of this.hosts) if (!host.relay.running) this.start(host);
  }

  /** SIGKILL at a random moment, and a new process after a random pause. */
  async killAndRestart(host: Host): Promise<void> {
    if (!host.relay.running) return;
    await host.relay.kill();
    this.counts.kills += 1;
    await sleep(this.random.between(0, 300));
    this.start(host);
  }

  /** Relay and node end for good: the host leaves the network. */
  async bury(host: Host): Promise<void> {
    await Promise.all([host.relay.kill(), host.node.stop()]);
    this.hosts.splice(this.hosts.indexOf(host), 1);
    this.counts.kills += 2;
  }

  async isJoined(host: Host): Promise<boolean> {
    return (await host.node.status()).state === 'joined';
  }

  async until(what: string, holds: () => Promise<boolean>, withinMs = PATIENCE_MS): Promise<boolean> {
    const deadline = Date.now() + withinMs;
    while (Date.now() < deadline) {
      if (await holds().catch(() => false)) return true;
      await sleep(100);
    }
    console.error(`not within ${withinMs} ms: ${what}`);
    return false;
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#calm = true;
    await this.#miner;
    await Promise.allSettled(this.#troubles);
    await Promise.all(this.hosts.map(({ relay }) => relay.kill()));
    await this.network.stop();
  }
}

/** The end of a relay's output. */
export const tail = (host: Host, lines = 12): string =>
  `${host.name}:\n${host.relay.log().trim().split('\n').slice(-lines).join('\n')}`;
