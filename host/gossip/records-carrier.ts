/**
 * Carries gossip as records: over encrypted connections that the relay listens for or dials (host/records/wire), on which two relays compare all
 * that they hold, and then tell each other what is new. message-records.ts says what the record of a message is, message-store.ts what becomes of
 * one that comes in.
 */
import { randomBytes } from 'node:crypto';
import type { Log } from '../../lib/daemon/log.ts';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { keyPairOf } from '../../lib/noise/x25519.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { HexOf, Strict } from '../../lib/protocol/schema.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Desk } from '../records/wire/asking.ts';
import type { WireLimits } from '../records/wire/limits.ts';
import { type Address, RecordWire, type WireEvent } from '../records/wire/wire.ts';
import type { AskablePeer, Carrier, Exchange, Figure, PeerStatus } from './carrier.ts';
import { Charges } from './charges.ts';
import { MessageRecords } from './message-records.ts';
import { MessageStore } from './message-store.ts';
import { Bell, pausing } from './pausing.ts';

export interface RecordsSettings {
  /** Where other relays find this one; absent: nowhere, it only dials. */
  listen?: { host: string; port: number };
  /** Relays to dial; with a key, that one has to be there. */
  peers: readonly Address[];
}

export interface RecordsCarrierOptions extends RecordsSettings {
  /** Whose gossip it is. */
  domain: Domain;
  /** This relay's key is stored here. */
  store: Store;
  log: Log;
  limits?: Partial<WireLimits>;
  /** Answers what peers ask for beside messages; absent: nobody does. */
  desk?: Desk;
  /** What a source did against the rules, for the metrics. */
  onCharge?: (source: string, code: string) => void;
}

/** Nobody: who is connected has a name. */
const UNKNOWN = 'records/';

/** What only the other side can have done, or who is at its address. */
const OFFENCE = /^(SYNC_[A-Z]+|NOISE_[A-Z]+|WIRE_(MESSAGE|KEY|PENALTY|FULL))$/;
const CONNECTED = 'connected';

const KeySchema = Strict({ seed: HexOf(32) });

/** Entries of the log that are looked at before anything else may happen. */
const BATCH = 64;
/** Milliseconds between looks at what the log does not hold any more. */
const PRUNE_MS = 2_000;
/** Between comparisons because something is sought: as soon, and as late. */
const SEEK_MS = 1_000;
const LOOK_MS = 10_000;
/** A peer is asked for few messages at once, and has about as long for them as over HTTP: who withholds them delays them by this. */
const LIMITS: Partial<WireLimits> = {
  asked: 16,
  lacking: 64,
  deliveredWithin: 5_000,
  redial: [1_000, 15_000],
};

export class RecordsCarrier implements Carrier {
  readonly peers: readonly string[];
  /** By which peers know this relay: its public key, in hex. */
  readonly key: string;
  readonly #options: RecordsCarrierOptions;
  readonly #closing = new AbortController();
  /** The keys of peers, with what their messages are called by. */
  readonly #sources = new Map<string, string>();
  readonly #seeking = new Bell();
  /** What was last said of each peer of the settings. */
  readonly #reported = new Map<string, string>();
  readonly #charges: Charges;
  #exchange!: Exchange;
  #messages!: MessageStore;
  #wire!: RecordWire;
  #port: number | undefined;
  #loops: Promise<void>[] = [];

  constructor(options: RecordsCarrierOptions) {
    this.#options = options;
    this.peers = options.peers.map(nameOf);
    this.#charges = new Charges(options.onCharge);
    // It may be the one that dials.
    for (const peer of options.peers) if (peer.key !== undefined) this.#sources.set(peer.key, nameOf(peer));
    this.key = toHex(this.#staticKey().publicKey);
  }

  attach(exchange: Exchange): void {
    const { domain, limits, desk } = this.#options;
    this.#exchange = exchange;
    this.#messages = new MessageStore({
      records: new MessageRecords(domain),
      exchange,
      charges: this.#charges,
      sourceOf: (key) => this.#sources.get(key) ?? UNKNOWN,
      pause: async (milliseconds) => {
        await pausing(milliseconds, this.#closing.signal);
        return !this.#closing.signal.aborted;
      },
    });
    this.#wire = new RecordWire({
      store: this.#messages,
      staticKey: this.#staticKey(),
      limits: { ...LIMITS, ...limits },
      desk,
      onEvent: (event) => this.#see(event),
    });
    exchange.sought.onNew(() => this.#seeking.ring());
  }

  async listen(): Promise<void> {
    const { listen } = this.#options;
    if (listen !== undefined) this.#port = await this.#wire.listen(listen.host, listen.port);
  }

  address(): string | undefined {
    const { listen } = this.#options;
    return listen === undefined || this.#port === undefined
      ? undefined
      : `${this.key}@${withPort({ host: listen.host, port: this.#port })}`;
  }

  start(): void {
    if (this.#loops.length > 0) return;
    this.#loops = [this.#follow(), this.#seek()];
    for (const peer of this.#options.peers) this.#wire.dial(peer);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#wire.stop();
    await Promise.all(this.#loops);
  }

  status(): PeerStatus[] {
    const connected = new Set(this.#wire.peers.map(({ key }) => this.#sources.get(key)));
    return this.peers.map((peer) => ({ peer, reachable: connected.has(peer) }));
  }

  askable(): AskablePeer[] {
    return this.#wire.peers.flatMap(({ key }) => {
      const peer = this.#isChosen(key) ? this.#sources.get(key) : undefined;
      return peer === undefined ? [] : [{ peer, ask: (what) => this.#wire.ask(key, what) }];
    });
  }

  figures(): Figure[] {
    const name = 'dstack_relay_records';
    const { peers, lacking } = this.#wire;
    const sum = (of: (peer: (typeof peers)[number]) => number) =>
      peers.reduce((total, peer) => total + of(peer), 0);
    const same = peers.filter(({ last }) => last !== undefined && last.missingHere + last.missingThere === 0);
    return [
      { name: `${name}_held`, help: 'Messages that peers can have as records.', value: this.#messages.count },
      { name: `${name}_connections`, help: 'Connections with other relays.', value: peers.length },
      { name: `${name}_same`, help: 'Of these, those with all the same messages.', value: same.length },
      { name: `${name}_lacking`, help: 'Messages that others offer and that are not here.', value: lacking },
      {
        name: `${name}_unfinished`,
        help: 'Messages of which parts are on their way.',
        value: this.#messages.unfinished,
      },
      {
        name: `${name}_received_bytes`,
        help: 'Over these connections.',
        value: sum((one) => one.received.bytes),
      },
      { name: `${name}_sent_bytes`, help: 'Over these connections.', value: sum((one) => one.sentBytes) },
    ];
  }

  /** What the log holds, from whatever carrier, is a record. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    let prunedAt = Date.now();
    for (let position = 0; !signal.aborted; ) {
      try {
        const rows = this.#exchange.idsAfter(position, BATCH);
        this.#messages.show(rows.map(({ id }) => id));
        position = rows.at(-1)?.sequence ?? position;
        if (Date.now() - prunedAt >= PRUNE_MS) {
          if (this.#messages.prune()) this.#wire.refresh();
          prunedAt = Date.now();
        }
        if (rows.length > 0) await new Promise((resolve) => setImmediate(resolve));
        else await this.#exchange.change(position, PRUNE_MS);
      } catch (error) {
        // The store of messages, which is read for each.
        this.#options.log.warn({ code: codeOf(error) }, 'messages are not shown as records for now');
        await pausing(PRUNE_MS, signal);
      }
    }
  }

  /** What is on chain and not here: somebody may have it by now. */
  async #seek(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await this.#seeking.pause(LOOK_MS, signal);
      if (!signal.aborted && this.#exchange.sought.all().length > 0) this.#wire.reconcile();
      await pausing(SEEK_MS, signal);
    }
  }

  #see({ kind, address, key, dialled, code }: WireEvent): void {
    // Where the two dialled each other at once, this connection may not be the one that stays.
    if (kind === 'connected' || (dialled !== undefined && key !== undefined && code === 'WIRE_DUPLICATE'))
      this.#meet(key!, address, dialled);
    const known = key === undefined ? undefined : this.#sources.get(key);
    const peer = known ?? (dialled === undefined ? UNKNOWN : nameOf(dialled));
    if (kind === 'ended' && key !== undefined) this.#part(key);
    if (code !== undefined && OFFENCE.test(code)) this.#options.onCharge?.(peer, code);
    this.#report(peer, kind === 'connected' ? CONNECTED : code);
  }

  /** What is new of a peer of the settings. Of strangers nothing: who connects again and again must not fill the log. */
  #report(peer: string, what: string | undefined): void {
    if (what === undefined || this.#reported.get(peer) === what || !this.peers.includes(peer)) return;
    // What comes of two relays that dial each other.
    if (what === 'WIRE_DUPLICATE' || what === 'PEER_WIRE_DUPLICATE' || what === 'WIRE_STOPPED') return;
    this.#reported.set(peer, what);
    const { log } = this.#options;
    if (what === CONNECTED) log.info({ peer }, 'connected with a relay by records');
    else log.warn({ peer, code: what }, 'no connection by records with a relay');
  }

  /** A key is what the address that this relay dialled has shown; anyone else is known by where they call from, however many keys they make. */
  #meet(key: string, address: string, dialled: Address | undefined): void {
    if (dialled === undefined) {
      if (!this.#isChosen(key)) this.#sources.set(key, `records/${sourceOf(address.replace(/:\d+$/, ''))}`);
      return;
    }
    const name = nameOf(dialled);
    // An address has one key, the newest.
    for (const [other, known] of this.#sources) if (known === name) this.#sources.delete(other);
    this.#sources.set(key, name);
  }

  /** Its connection is over; of one that took the place of another, only the other is. */
  #part(key: string): void {
    if (!this.#isChosen(key) && !this.#wire.peers.some((peer) => peer.key === key)) this.#sources.delete(key);
  }

  #isChosen(key: string): boolean {
    const source = this.#sources.get(key);
    return source !== undefined && this.peers.includes(source);
  }

  #staticKey() {
    const table = new Table(this.#options.store, 'gossip/records/', KeySchema);
    if (table.get('own') === undefined) table.put('own', { seed: toHex(randomBytes(32)) });
    return keyPairOf(fromHex(table.get('own')!.seed));
  }
}

/** Begins with something of its own: no other carrier calls a source so. */
const nameOf = (peer: Address): string => `records://${withPort(peer)}`;

const withPort = ({ host, port }: { host: string; port: number }): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;
