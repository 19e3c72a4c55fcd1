/**
 * Many relays in one process, with all their own parts but sockets and processes: the event loop and its handlers, gossip with the real
 * checks, joining, the payer. The chain is one in memory (paced-chain.ts), guests answer with real keys, and what is published reaches
 * all others after a while. Time is the caller's, so that an hour of it takes seconds; what is asked of the chain is counted by relay.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import type { Carrier, Exchange } from '../../host/gossip/carrier.ts';
import { Gossip } from '../../host/gossip/gossip.ts';
import type { Message } from '../../host/gossip/message-kind.ts';
import type { Admission } from '../../host/relay/admission.ts';
import { Archive } from '../../host/relay/archive.ts';
import { relayHandlers } from '../../host/relay/handlers.ts';
import { Join } from '../../host/relay/join.ts';
import { relayKinds } from '../../host/relay/kinds.ts';
import { Network } from '../../host/relay/network.ts';
import { NodeCount } from '../../host/relay/node-count.ts';
import type { RpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { headsOf } from '../../lib/framework/endpoint/rpc.ts';
import { EvmChain } from '../../lib/framework/host/chain-client.ts';
import { Host } from '../../lib/framework/host/host.ts';
import { openStore, type Store } from '../../lib/framework/store.ts';
import { fromHex, sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { onboardCall, registerCall } from '../../lib/protocol/onboarding-calls.ts';
import {
  type AnswerMessage,
  type NodeStatus,
  nodePaths,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { newAnswer, newSealed, requestOver, SECRET } from './guest.ts';
import { type ChainEvent, PacedChain, word } from './paced-chain.ts';

const POLL_MS = 1_000;
const GOSSIP_MS = 150;
const START = 1_800_000_000_000;
/** Until relays know the pace of their chain. */
const WARM_UP_MS = 240_000;
const TICK_MS = 50;
export const BLOCK_MS = 12_000;

/** A node that wants to join, and all that will be said about it: made beforehand, since keys take this machine's own time. */
export interface Joiner {
  readonly request: RequestMessage;
  readonly hash: Hex;
  readonly answer: AnswerMessage;
  readonly sealed: SealedMessage;
}

export interface ModelOptions {
  /** Relays whose nodes have joined. */
  hosts: number;
  /** Nodes that will join. */
  joiners: number;
  /** Milliseconds that a node takes to answer, or to seal. */
  guestMs?: number;
  /** Whether what this relay publishes reaches nobody. */
  isSilent?: (nth: number) => boolean;
}

export class ModelledHosts {
  readonly chain: PacedChain;
  readonly joiners: readonly Joiner[];
  readonly hosts: ModelledHost[] = [];
  /** How often nodes were asked to answer, and to seal, by request. */
  readonly onboards = new Map<string, number>();
  readonly seals = new Map<string, number>();
  /** What happens in the next block, besides what is paid for. */
  readonly #events: ChainEvent[] = [];
  readonly scratch = mkdtempSync(join(tmpdir(), 'modelled-hosts-'));
  readonly options: Required<ModelOptions>;
  readonly domain: Domain;

  private constructor(options: ModelOptions, domain: Domain, joiners: readonly Joiner[]) {
    this.options = { guestMs: 300, isSilent: () => false, ...options };
    this.joiners = joiners;
    this.domain = domain;
    const effects = new Map<string, ChainEvent>();
    for (const { request, hash, answer } of joiners) {
      const requestHash = to0x(fromHex(hash));
      const node = request.node;
      const answerHash = `0x${answer.answerHash.slice(0, 62)}00`;
      effects.set(registerCall(request), { name: 'Registered', requestHash, node });
      effects.set(onboardCall(answer), { name: 'Onboarded', requestHash, answerHash });
    }
    this.chain = new PacedChain({
      now: Date.now,
      events: () => this.#events.splice(0),
      effectOf: (data) => effects.get(data),
      networkKey: networkKey(SECRET, 1).address,
    });
  }

  /** Time stands still from here on until `pass`; `close` gives it back. */
  static async open(options: ModelOptions): Promise<ModelledHosts> {
    const domain = { chainId: 1, contract: new PacedChain({ now: () => START }).address };
    const kem = await newKemKeyPair();
    const joiners: Joiner[] = [];
    for (let nth = 0; nth < options.joiners; nth += 1) joiners.push(await newJoiner(domain, kem.publicKey));
    mock.timers.enable({ apis: ['Date', 'setTimeout', 'setInterval'], now: START });
    const model = new ModelledHosts(options, domain, joiners);
    for (let nth = 0; nth < options.hosts; nth += 1) {
      model.add();
      // Their looks at the chain are not all at the same time.
      await model.pass(POLL_MS / options.hosts);
    }
    await model.pass(WARM_UP_MS);
    return model;
  }

  /** Another relay; its node has joined, or wants to. */
  add(joiner?: Joiner): ModelledHost {
    const host = new ModelledHost(this, this.hosts.length, joiner);
    this.hosts.push(host);
    return host;
  }

  /** A request is registered by a relay that is not here. */
  register({ hash, request }: Joiner): void {
    this.#events.push({ name: 'Registered', requestHash: to0x(fromHex(hash)), node: request.node });
  }

  /** Lets all of them do what is due. */
  async pass(milliseconds: number): Promise<void> {
    for (let done = 0; done < milliseconds; done += TICK_MS) {
      mock.timers.tick(Math.min(TICK_MS, milliseconds - done));
      for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Calls of those whose nodes had joined before, by what was called. */
  calls(): Map<string, number> {
    const sum = new Map<string, number>();
    for (const { asked } of this.hosts.slice(0, this.options.hosts))
      for (const [method, times] of asked) sum.set(method, times + (sum.get(method) ?? 0));
    return sum;
  }

  /** Their writes that wait for the disk. */
  syncs(): number {
    return sum(this.hosts.slice(0, this.options.hosts).map((host) => host.syncs));
  }

  /** What a relay publishes reaches all others; those whose nodes wait, what is about them. */
  carry(from: number, message: Message): void {
    if (from < this.options.hosts && this.options.isSilent(from)) return;
    setTimeout(() => {
      for (const host of this.hosts) if (host.nth !== from && host.hears(message)) host.air.receive(message);
    }, GOSSIP_MS);
  }

  async close(): Promise<void> {
    const stopping = Promise.all(this.hosts.map((host) => host.stop()));
    await this.pass(5_000);
    await stopping;
    for (const host of this.hosts) host.store.close();
    mock.timers.reset();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

async function newJoiner(domain: Domain, kemPublicKey: Uint8Array): Promise<Joiner> {
  // The chain begins with so many blocks.
  const request = requestOver(domain, { number: 399, hash: fromHex(word(1_000_399).slice(2)) }, kemPublicKey);
  const [answer, sealed] = [await newAnswer(domain, request), await newSealed(domain, request)];
  return { request, hash: toHex(requestOf(request).hash), answer, sealed };
}

/** One relay, put together as host/relay/service.ts does, and its guest. */
export class ModelledHost {
  readonly nth: number;
  /** Rows that were read from it, one by one or in lists. */
  rowsRead = 0;
  /** Writes that wait for the disk. */
  syncs = 0;
  readonly store: Store = this.#counted(openStore(':memory:'));
  readonly asked = new Map<string, number>();
  readonly air: Air;
  readonly addedAt = Date.now();
  joinedAt: number | undefined;
  /** How often its own node was asked to answer or to seal. */
  worked = 0;
  /** Calls of its own until then. */
  callsToJoin = 0;
  readonly #model: ModelledHosts;
  readonly #joiner: Joiner | undefined;
  readonly #parts: readonly { start(): void; stop(): Promise<void> }[];
  readonly #gossip: Gossip<Admission>;
  readonly #looks: NodeJS.Timeout;
  #stopping: Promise<unknown> | undefined;

  constructor(model: ModelledHosts, nth: number, joiner: Joiner | undefined) {
    [this.nth, this.#model, this.#joiner] = [nth, model, joiner];
    const { store } = this;
    const { domain, chain } = model;
    const log = { info() {}, warn() {} };
    const endpoint = this.#counting(chain);
    const client = new EvmChain({
      ...{ url: chain.url, endpoint: { endpoint, heads: headsOf(endpoint) }, chainId: domain.chainId },
      ...{ store, log, maxFee: 10n ** 11n, bumpAfter: 45_000, confirmations: 2, pollInterval: POLL_MS },
      privateKey: to0x(sha256(utf8(`gas key ${nth}`))),
    });
    const network = new Network(client.logsOf(domain.contract), domain);
    this.air = new Air((message) => model.carry(nth, message));
    const gossip: Gossip<Admission> = new Gossip<Admission>({
      ...{ store, log, kinds: relayKinds, carriers: [this.air] },
      context: () => ({ network, held: gossip.messages, flavour: 'sim', certificate: undefined }),
    });
    const { messages } = gossip;
    const archive = new Archive(join(model.scratch, String(nth)));
    const node = this.#guest();
    const shared = { store, chain: client, network, messages, archive, log, pollInterval: POLL_MS };
    const joining = new Join({ ...shared, node, gossip, whileJoined: async () => {} });
    const nodeCount = new NodeCount(store);
    // All were there when each of them joined.
    for (let n = 1; n < model.options.hosts; n += 1) nodeCount.saw(toHex(sha256(utf8(`node ${n}`))));
    const host: Host = new Host({
      ...{ ...shared, enclave: node, gossip, confirmations: 2, rewind: 256 },
      handlers: relayHandlers({
        ...{ ...shared, node, ownKey: toHex(sha256(utf8(`relay ${nth}`))) },
        collateral: { forQuote: async (_quote, brought = []) => brought[0] },
        isOwn: (hash) => joining.isOwn(hash),
        nodeCount,
        latency: () => gossip.latency(),
        wake: (hash) => host.wake(hash),
      }),
      startBlock: async (_, head) => head - 256,
    });
    gossip.subscribe(({ message }) => {
      host.wake(messages.subjectOf(message));
      joining.wake();
    }, gossip.last);
    this.#gossip = gossip;
    gossip.start();
    this.#parts = [host, joining, client];
    for (const part of this.#parts) part.start();
    this.#looks = setInterval(() => void network.apps().catch(() => {}), 5_000);
  }

  hears({ requestHash }: Message): boolean {
    return this.#joiner === undefined || this.#joiner.hash === requestHash;
  }

  /** Nothing of it runs once some time has passed. */
  stop(): Promise<unknown> {
    clearInterval(this.#looks);
    this.#stopping ??= Promise.all([...this.#parts.map((part) => part.stop()), this.#gossip.close()]);
    return this.#stopping;
  }

  #counted(store: Store): Store {
    const [get, list] = [store.get.bind(store), store.list.bind(store)];
    const [batch, remove] = [store.batch.bind(store), store.delete.bind(store)];
    // A put is a batch.
    store.batch = (operations, when) => {
      if (when !== 'soon') this.syncs += 1;
      batch(operations, when);
    };
    store.delete = (key) => {
      this.syncs += 1;
      remove(key);
    };
    store.get = (key) => {
      this.rowsRead += 1;
      return get(key);
    };
    store.list = (prefix, options) => {
      const rows = list(prefix, options);
      this.rowsRead += rows.length;
      return rows;
    };
    return store;
  }

  #counting(chain: PacedChain): RpcEndpoint {
    return {
      url: chain.url,
      name: chain.name,
      call: (schema, method, params) => {
        this.asked.set(method, 1 + (this.asked.get(method) ?? 0));
        return chain.call(schema, method, params) as never;
      },
    };
  }

  #guest() {
    const model = this.#model;
    const status = (): NodeStatus => ({
      state: this.#joiner === undefined || this.joinedAt !== undefined ? 'joined' : 'requesting',
      ...{ flavour: 'sim', ...model.domain, config: this.#model.joiners[0]!.request.config, epoch: 1 },
    });
    const work = async <T>(counts: Map<string, number>, hash: Hex, result: T): Promise<T> => {
      counts.set(hash, 1 + (counts.get(hash) ?? 0));
      this.worked += 1;
      await new Promise((resolve) => setTimeout(resolve, model.options.guestMs));
      return result;
    };
    return {
      status: async () => status(),
      newRequest: async () => this.#joiner!.request,
      bootstrapPackage: async () => {
        throw new Error('nobody bootstraps here');
      },
      answer: async () => {
        this.joinedAt = Date.now();
        this.callsToJoin = sum(this.asked.values());
        return status();
      },
      request: async (path: string, body: unknown) => {
        const hash = toHex(requestOf(body as RequestMessage).hash);
        const joiner = model.joiners.find((one) => one.hash === hash)!;
        return path === nodePaths.onboard
          ? work(model.onboards, hash, joiner.answer)
          : work(model.seals, hash, joiner.sealed);
      },
    };
  }
}

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);

/** What this relay publishes goes to all others, and theirs comes from one source. */
class Air implements Carrier {
  readonly peers = ['air'];
  readonly #send: (message: Message) => void;
  #exchange!: Exchange;
  #isOpen = true;
  #running = Promise.resolve();

  constructor(send: (message: Message) => void) {
    this.#send = send;
  }

  attach(exchange: Exchange): void {
    this.#exchange = exchange;
  }

  start(): void {
    this.#running = this.#run();
  }

  receive(message: Message): void {
    if (this.#isOpen) this.#exchange.accept(message, 'air').catch(() => {});
  }

  status() {
    return [{ peer: 'air', reachable: true }];
  }

  latency(): number {
    return GOSSIP_MS;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let position = 0; this.#isOpen; ) {
      for (const { sequence, message, source } of this.#exchange.after(position, 100)) {
        position = sequence;
        if (source !== 'air') this.#send(message);
      }
      await this.#exchange.change(position, 60_000);
    }
  }
}
