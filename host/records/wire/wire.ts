/**
 * The connections of a records node: it listens, dials, and keeps its members the same as its peers'. What a peer may cost is in limits.ts,
 * what is said in lib/protocol/records/sync.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { sourceOf } from '../../../lib/daemon/server-limits.ts';
import type { KeyPair } from '../../../lib/noise/x25519.ts';
import { fromHex, toHex } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { handshakePrologue, handshakeSecret } from '../../../lib/protocol/records/sync/greeting.ts';
import { ItemSet } from '../../../lib/protocol/records/sync/item-set.ts';
import { placeOf } from '../../../lib/protocol/records/sync/places.ts';
import type { Item } from '../types.ts';
import { type Address, requireAddress } from './address.ts';
import type { Desk } from './asking.ts';
import { Fetcher } from './fetcher.ts';
import { Gate } from './gate.ts';
import { WIRE_LIMITS, type WireLimits } from './limits.ts';
import { Peer, type PeerHost } from './peer.ts';
import { Purses } from './purses.ts';
import { SecureSocket } from './secure-socket.ts';
import type { PeerStatus, RecordStore } from './types.ts';

/** Keys that are not spoken to for a while: so many are remembered. */
const MAX_PENALTIES = 1024;
/**
 * What only the peer itself can have done: nobody on the way can say it under its key. That a record did not come in time may be this node's fault,
 * which had something else to do, or slept.
 */
const GUILTY = /^(SYNC_(?!WITHHELD)[A-Z]+|WIRE_MESSAGE)$/;

/** What happened on the wire, for a log. */
export interface WireEvent {
  readonly kind: 'connected' | 'ended' | 'turned away';
  readonly address: string;
  /** The peer's static key, once it is known. */
  readonly key?: string;
  /** Whom this node dialled, where it did. */
  readonly dialled?: Address;
  /** Why, where it ended. */
  readonly code?: string;
  /** What was thrown, if anything was. */
  readonly cause?: unknown;
}

export interface WireOptions {
  readonly store: RecordStore;
  /** This node's own. */
  readonly staticKey: KeyPair;
  /** The network's, if it has one. */
  readonly secret?: Uint8Array;
  readonly limits?: Partial<WireLimits>;
  /** Who answers what peers ask beside records; absent: nobody. */
  readonly desk?: Desk | undefined;
  readonly onEvent?: (event: WireEvent) => void;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Milliseconds that only go on. */
  readonly uptime?: () => number;
}

export type { Address };

export class RecordWire {
  readonly #options: WireOptions;
  readonly #limits: WireLimits;
  readonly #uptime: () => number;
  readonly #psk: Uint8Array;
  readonly #prologue: Uint8Array;
  readonly #gate: Gate;
  readonly #purses: Purses;
  readonly #fetcher: Fetcher;
  readonly #host: PeerHost;
  readonly #unsubscribe: () => void;
  readonly #unsubscribePulses: (() => void) | undefined;
  readonly #peers = new Map<string, Peer>();
  readonly #penalties = new Map<string, number>();
  readonly #sockets = new Set<Socket>();
  readonly #dialling = new Set<NodeJS.Timeout>();
  #server: Server | undefined;
  #items = ItemSet.empty;
  /** New members that are not in `#items` yet. */
  #arrived: Uint8Array[] = [];
  /** While the store takes nothing. */
  #awaiting: NodeJS.Timeout | undefined;
  #isStopped = false;

  /** @throws SYNC_NETWORK for a secret of another length */
  constructor(options: WireOptions) {
    const { store, secret } = options;
    this.#options = options;
    this.#limits = { ...WIRE_LIMITS, ...options.limits };
    this.#uptime = options.uptime ?? (() => performance.now());
    const network = fromHex(store.network);
    this.#psk = handshakeSecret(network, secret);
    this.#prologue = handshakePrologue(network);
    this.#gate = new Gate(this.#limits);
    this.#purses = new Purses(this.#limits);
    this.#fetcher = new Fetcher(this.#limits.offered);
    this.#unsubscribe = store.subscribe((items) => this.#arrive(items));
    this.#unsubscribePulses = store.pulses?.subscribePulses((pulse) => {
      for (const peer of this.#peers.values()) peer.tellPulse(pulse);
    });
    this.#arrived = [...store.items()].map(placeOfItem);
    this.#host = {
      store,
      fetcher: this.#fetcher,
      limits: this.#limits,
      desk: options.desk,
      items: () => this.#current(),
      now: options.now ?? Date.now,
      uptime: this.#uptime,
      wake: (peers) => {
        for (const key of peers) this.#peers.get(key)?.ask();
      },
      awaitStore: () => this.#awaitStore(),
      tellOfValue: (id) => {
        for (const peer of this.#peers.values()) peer.tellAgain(id);
      },
    };
  }

  /**
   * @returns the port, which is a free one for 0
   * @throws WIRE_ADDRESS; WIRE_LISTEN where nothing can listen there
   */
  async listen(host: string, port: number): Promise<number> {
    requireAddress({ host, port }, 0);
    const server = createServer((socket) => void this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => reject(notListening(host, port, cause)));
      server.listen(port, host, resolve);
    });
    this.#server = server;
    // Whoever was about to be accepted is not, for want of a descriptor or of memory; what listens goes on.
    server.on('error', (cause) =>
      this.#tell({ kind: 'turned away', address: `${host}:${port}`, code: 'WIRE_FULL', cause }),
    );
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : port;
  }

  /** Connects, and does so again whenever the connection has ended, with growing pauses. @throws WIRE_ADDRESS */
  dial(address: Address): void {
    requireAddress(address, 1);
    const [first, most] = this.#limits.redial;
    let pause = first;
    let key = address.key;
    const attempt = async (): Promise<void> => {
      const began = this.#uptime();
      // It may have dialled itself.
      if (key === undefined || !this.#peers.has(key)) key = (await this.#dialOnce(address)) ?? key;
      if (this.#isStopped) return;
      // What held for a while did not fail.
      pause = this.#uptime() - began > most ? first : Math.min(most, pause * 2);
      this.#later(attempt, pause * (0.5 + Math.random() / 2));
    };
    void attempt();
  }

  get peers(): readonly PeerStatus[] {
    return [...this.#peers.values()].map(({ status }) => status);
  }

  /**
   * What a peer says to this, beside records; empty where it has nothing to say.
   * @param key of a peer that is connected @param what up to 512 bytes
   * @throws WIRE_CLOSED for one that is not; WIRE_NO_ANSWERS, WIRE_ASKS, WIRE_LATE
   */
  async ask(key: string, what: Uint8Array): Promise<Uint8Array> {
    const peer = this.#peers.get(key);
    if (peer === undefined) throw new DstackError('WIRE_CLOSED', 'there is no connection with that node now');
    return await peer.askFor(what);
  }

  /** How many records somebody offers that this node lacks. */
  get lacking(): number {
    return this.#fetcher.size;
  }

  /**
   * Whether the members were found to be the same as those of so many peers within the last `within` milliseconds. Only what was compared
   * over a connection that still stands counts. A peer may pretend to have whatever this node has: name the keys that count where it matters.
   */
  isSynchronised(peers: number, within: number, among?: ReadonlySet<string>): boolean {
    const same = this.peers.filter(
      ({ key, last }) =>
        last !== undefined &&
        last.age <= within &&
        last.missingHere + last.missingThere === 0 &&
        (among === undefined || among.has(key)),
    );
    return same.length >= peers;
  }

  /** Members are gone from the store, which is looked through anew: the others are asked nothing of them. */
  refresh(): void {
    this.#items = ItemSet.empty;
    this.#arrived = [...this.#options.store.items()].map(placeOfItem);
  }

  /** Compares with all peers now. */
  reconcile(): void {
    for (const peer of this.#peers.values()) peer.reconcile();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unsubscribe();
    this.#unsubscribePulses?.();
    for (const timer of this.#dialling) clearTimeout(timer);
    clearTimeout(this.#awaiting);
    for (const peer of this.#peers.values()) peer.close('WIRE_STOPPED');
    const server = this.#server;
    const closed =
      server === undefined ? undefined : new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) {
      if (socket.connecting) socket.destroy();
      else socket.destroySoon();
    }
    await closed;
  }

  async #accept(socket: Socket): Promise<void> {
    const ticket = this.#gate.enter(socket.remoteAddress);
    if (ticket === undefined || this.#isStopped) {
      this.#tell({ kind: 'turned away', address: addressOf(socket), code: 'WIRE_FULL' });
      socket.destroy();
      return;
    }
    socket.once('close', () => ticket.leave());
    await this.#speak(socket, undefined, undefined, () => ticket.admit());
  }

  async #dialOnce(dialled: Address): Promise<string | undefined> {
    const { host, port, key } = dialled;
    const socket = connect({ host, port, timeout: this.#limits.handshakeWithin });
    this.#keep(socket);
    const isConnected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('timeout', () => resolve(false));
      socket.once('close', () => resolve(false));
    });
    if (!isConnected) {
      socket.destroy();
      this.#tell({ kind: 'ended', address: `${host}:${port}`, dialled, code: 'WIRE_UNREACHABLE' });
      return undefined;
    }
    socket.setTimeout(0);
    return await this.#speak(socket, dialled, key, () => {});
  }

  /** Until the connection ends. @returns the peer's key, if it has shown one */
  async #speak(
    socket: Socket,
    dialled: Address | undefined,
    expected: string | undefined,
    admit: () => void,
  ): Promise<string | undefined> {
    const isDialled = dialled !== undefined;
    const address = addressOf(socket);
    const source = sourceOf(socket.remoteAddress);
    this.#keep(socket);
    let key: string | undefined;
    try {
      const secure = await SecureSocket.over(
        socket,
        {
          isInitiator: isDialled,
          staticKey: this.#options.staticKey,
          psk: this.#psk,
          prologue: this.#prologue,
        },
        this.#limits,
      );
      key = secure.key;
      this.#requireWelcome(key, expected);
      admit();
      if (!this.#isBetter(key, isDialled))
        throw new DstackError('WIRE_DUPLICATE', 'the two nodes are connected already');
      const purse = this.#purses.take(source);
      const peer = new Peer(this.#host, secure, isDialled, purse);
      this.#replace(peer);
      this.#tell({ kind: 'connected', address, key, ...(dialled && { dialled }) });
      const end = await peer.run();
      this.#purses.leave(source, purse);
      this.#leave(peer, end.code);
      this.#tell({ kind: 'ended', address, key, ...(dialled && { dialled }), ...end });
    } catch (cause) {
      socket.destroy();
      this.#tell({
        kind: 'ended',
        address,
        ...(key === undefined ? {} : { key }),
        ...(dialled && { dialled }),
        code: codeOf(cause),
        cause,
      });
    }
    return key;
  }

  /** So that it ends when this node stops. */
  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #requireWelcome(key: string, expected: string | undefined): void {
    if (expected !== undefined && key !== expected) {
      throw new DstackError('WIRE_KEY', 'another node is there than was to be; compare its key');
    }
    const until = this.#penalties.get(key);
    if (until !== undefined && until > this.#uptime()) {
      throw new DstackError('WIRE_PENALTY', 'the peer broke the rules before; it may come back later');
    }
    if (this.#isStopped) throw new DstackError('WIRE_STOPPED', 'this node is stopping');
  }

  /** Where both nodes dialled, both keep the connection of the one with the lower key; of two by the same one, the newer. */
  #isBetter(key: string, isDialled: boolean): boolean {
    const old = this.#peers.get(key);
    if (old === undefined || old.isDialled === isDialled) return true;
    return isDialled === toHex(this.#options.staticKey.publicKey) < key;
  }

  /** What the connection before was asked for, this one or others are. */
  #replace(peer: Peer): void {
    const old = this.#peers.get(peer.key);
    this.#peers.set(peer.key, peer);
    if (old === undefined) return;
    old.close('WIRE_DUPLICATE');
    this.#host.wake(this.#fetcher.gone(peer.key));
  }

  #leave(peer: Peer, code: string): void {
    if (GUILTY.test(code)) this.#punish(peer.key);
    if (this.#peers.get(peer.key) !== peer) return;
    this.#peers.delete(peer.key);
    this.#options.store.forget(peer.key);
    this.#host.wake(this.#fetcher.gone(peer.key));
  }

  #punish(key: string): void {
    this.#penalties.delete(key);
    this.#penalties.set(key, this.#uptime() + this.#limits.penalty);
    if (this.#penalties.size > MAX_PENALTIES) this.#penalties.delete(this.#penalties.keys().next().value!);
  }

  #arrive(items: readonly Item[]): void {
    this.#arrived.push(...items.map(placeOfItem));
    const ids = items.map(({ id }) => id);
    // Without its value it is still to be had.
    for (const id of ids) if (!this.#options.store.lacksValue(id)) this.#fetcher.done(id);
    for (const peer of this.#peers.values()) peer.tell(ids);
  }

  #current(): ItemSet {
    if (this.#arrived.length > 0) {
      this.#items = this.#items.with(this.#arrived);
      this.#arrived = [];
    }
    return this.#items;
  }

  /** Peers go on with what they are given; what they offer is asked for once the store takes it. */
  #awaitStore(): void {
    if (this.#isStopped || this.#awaiting !== undefined) return;
    this.#awaiting = setTimeout(() => {
      this.#awaiting = undefined;
      if (this.#options.store.stopped !== undefined) this.#awaitStore();
      else this.#host.wake([...this.#peers.keys()]);
    }, this.#limits.again);
  }

  #later(run: () => Promise<void>, milliseconds: number): void {
    const timer = setTimeout(() => {
      this.#dialling.delete(timer);
      void run();
    }, milliseconds);
    this.#dialling.add(timer);
  }

  #tell(event: WireEvent): void {
    this.#options.onEvent?.(event);
  }
}

function placeOfItem({ timestamp, id }: Item): Uint8Array {
  return placeOf(timestamp, fromHex(id));
}

function notListening(host: string, port: number, cause: Error): DstackError {
  return new DstackError(
    'WIRE_LISTEN',
    `nothing can listen on ${host}, port ${port}: ${cause.message}; choose another address or port`,
    { cause },
  );
}

function addressOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}:${remotePort}`;
}
