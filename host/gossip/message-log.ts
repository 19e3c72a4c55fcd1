/**
 * The messages that this host holds, in the order in which they came: what peers and late subscribers are given.
 *
 * Bounded: a message is *loose* until the relay says that its request is on chain, and loose ones are evicted first,
 * those of the same source before others', so that one flooding peer only pushes out itself. What an audit needs for
 * ever is in the relay's records, not here.
 */
import { randomBytes } from 'node:crypto';
import canonicalize from 'canonicalize';
import { type Static, Type } from 'typebox';
import { type Store, type StoreOperation, Table } from '../../lib/framework/store.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import {
  type BootstrapPackage,
  type GossipMessage,
  GossipMessageSchema,
  gossipTypes,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { Count, HexOf, Strict } from '../../lib/protocol/schema.ts';
import type { GossipEntry } from './transport.ts';

const EntrySchema = Strict({
  id: HexOf(32),
  message: GossipMessageSchema,
  source: Type.String({ maxLength: 300 }),
  kept: Type.Boolean(),
});
type Stored = Static<typeof EntrySchema>;
const SequenceSchema = Strict({ sequence: Count });
const IdentitySchema = Strict({ log: HexOf(16) });

export interface MessageLogLimits {
  /** Loose messages in all. */
  loose: number;
  /** Loose messages of one source. */
  loosePerSource: number;
  /** Messages about requests that are on chain. */
  kept: number;
  /** Different messages of one type about the same request: a quote's signature can be tampered with unnoticed. */
  perSubject: number;
}

const DEFAULT_LIMITS: MessageLogLimits = { loose: 1024, loosePerSource: 64, kept: 2048, perSubject: 8 };

/** The source of what this host publishes itself. */
export const SELF = 'self';

/** SHA-256 of the message's canonical JSON (RFC 8785), hex. */
export function messageId(message: GossipMessage | BootstrapPackage): string {
  return toHex(sha256(utf8(canonicalize(message) ?? '')));
}

/** The request that a message is about, 64 hex digits. */
export function subjectOf(message: GossipMessage): string {
  return message.type === 'request' ? toHex(requestOf(message).hash) : message.requestHash;
}

export class MessageLog {
  /** Names this log: positions in it mean nothing once the store was lost. */
  readonly identity: string;
  readonly #store: Store;
  readonly #limits: MessageLogLimits;
  readonly #entries: Table<typeof EntrySchema>;
  readonly #ids: Table<typeof SequenceSchema>;
  #last: number;

  constructor(store: Store, limits: Partial<MessageLogLimits> = {}) {
    this.#store = store;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#entries = new Table(store, 'gossip/message/', EntrySchema);
    this.#ids = new Table(store, 'gossip/id/', SequenceSchema);
    const identities = new Table(store, 'gossip/', IdentitySchema);
    if (identities.get('log') === undefined) identities.put('log', { log: randomBytes(16).toString('hex') });
    this.identity = identities.get('log')!.log;
    this.#last = new Table(store, 'gossip/', SequenceSchema).get('last')?.sequence ?? 0;
  }

  /** The newest message's sequence; 0 for an empty log. */
  get last(): number {
    return this.#last;
  }

  get(id: string): GossipEntry | undefined {
    const found = this.#ids.get(id);
    if (found === undefined) return undefined;
    const stored = this.#entries.get(keyOf(found.sequence));
    return stored === undefined ? undefined : { sequence: found.sequence, id, message: stored.message };
  }

  /** Adds a message that its checks let through; `fresh` is false when it was there already or has no room. */
  add(message: GossipMessage, source: string): { entry: GossipEntry; fresh: boolean } {
    const id = messageId(message);
    const known = this.get(id);
    if (known !== undefined) return { entry: known, fresh: false };
    const subject = subjectOf(message);
    const others = this.#subjects(message.type, subject);
    // Whoever fills the places for a request must not be able to keep its own host from publishing it.
    if (source !== SELF && others.length >= this.#limits.perSubject) {
      return { entry: { sequence: 0, id, message }, fresh: false };
    }
    const sequence = this.#last + 1;
    // What is about a kept request is kept too: the request was on chain when it was marked.
    const kept = this.#store.get(`gossip/kept/${subject}`) !== undefined;
    const stored: Stored = { id, message, source, kept };
    const last: StoreOperation = { kind: 'put', key: 'gossip/last', value: JSON.stringify({ sequence }) };
    this.#store.batch([
      this.#entries.putting(keyOf(sequence), stored),
      this.#ids.putting(id, { sequence }),
      { kind: 'put', key: `gossip/subject/${message.type}/${subject}/${keyOf(sequence)}`, value: id },
      {
        kind: 'put',
        key: kept ? `gossip/class/kept/${keyOf(sequence)}` : looseKey(source, sequence),
        value: id,
      },
      last,
    ]);
    this.#last = sequence;
    this.#evict(source);
    return { entry: { sequence, id, message }, fresh: true };
  }

  /** Messages after a sequence, oldest first. */
  after(sequence: number, limit: number): (GossipEntry & { source: string })[] {
    return this.#entries.list({ after: keyOf(sequence), limit }).map(({ id, value }) => ({
      sequence: Number(id),
      id: value.id,
      message: value.message,
      source: value.source,
    }));
  }

  /** Every message of one type about a request, oldest first. */
  about<T extends GossipMessage['type']>(type: T, subject: string): Extract<GossipMessage, { type: T }>[] {
    return this.#subjects(type, subject).flatMap(({ value }) => {
      const entry = this.get(value);
      return entry?.message.type === type ? [entry.message as Extract<GossipMessage, { type: T }>] : [];
    });
  }

  /** The request is on chain: its messages, and those still to come, are no longer loose. */
  keep(subject: string): void {
    if (this.#store.get(`gossip/kept/${subject}`) !== undefined) return;
    const operations: StoreOperation[] = [{ kind: 'put', key: `gossip/kept/${subject}`, value: '1' }];
    for (const type of gossipTypes) {
      for (const { key } of this.#subjects(type, subject)) {
        const sequence = key.slice(key.lastIndexOf('/') + 1);
        const stored = this.#entries.get(sequence);
        if (stored === undefined || stored.kept) continue;
        operations.push(
          this.#entries.putting(sequence, { ...stored, kept: true }),
          { kind: 'delete', key: looseKey(stored.source, Number(sequence)) },
          { kind: 'put', key: `gossip/class/kept/${sequence}`, value: stored.id },
        );
      }
    }
    this.#store.batch(operations);
    this.#evict('');
  }

  /** Whether a request is known to be, or to have been, on chain. */
  isKept(subject: string): boolean {
    return this.#store.get(`gossip/kept/${subject}`) !== undefined;
  }

  count(): { loose: number; kept: number } {
    return {
      loose: this.#store.count('gossip/class/loose/'),
      kept: this.#store.count('gossip/class/kept/'),
    };
  }

  #subjects(type: GossipMessage['type'], subject: string): { key: string; value: string }[] {
    return this.#store.list(`gossip/subject/${type}/${subject}/`, { limit: this.#limits.perSubject + 1 });
  }

  #evict(source: string): void {
    const { loose, loosePerSource, kept } = this.#limits;
    const own = `gossip/class/loose/${sourceKey(source)}/`;
    if (source !== '' && this.#store.count(own) > loosePerSource)
      this.#drop(this.#store.list(own, { limit: 1 })[0]!);
    // Across sources the oldest gives way.
    if (this.#store.count('gossip/class/loose/') > loose) {
      const all = this.#store.list('gossip/class/loose/', { limit: loose + 1 });
      this.#drop(all.reduce((a, b) => (sequenceIn(a.key) < sequenceIn(b.key) ? a : b)));
    }
    if (this.#store.count('gossip/class/kept/') > kept) {
      this.#drop(this.#store.list('gossip/class/kept/', { limit: 1 })[0]!);
    }
  }

  #drop(row: { key: string; value: string }): void {
    const sequence = row.key.slice(row.key.lastIndexOf('/') + 1);
    const stored = this.#entries.get(sequence);
    const operations: StoreOperation[] = [
      { kind: 'delete', key: row.key },
      this.#ids.deleting(row.value),
      this.#entries.deleting(sequence),
    ];
    if (stored !== undefined) {
      const subject = subjectOf(stored.message);
      operations.push({
        kind: 'delete',
        key: `gossip/subject/${stored.message.type}/${subject}/${sequence}`,
      });
      if (stored.kept) operations.push({ kind: 'delete', key: `gossip/kept/${subject}` });
    }
    this.#store.batch(operations);
  }
}

/** Sixteen digits, so that the store's order is that of the numbers. */
const keyOf = (sequence: number): string => String(sequence).padStart(16, '0');
const sequenceIn = (key: string): number => Number(key.slice(key.lastIndexOf('/') + 1));
/** A source is an address or a URL from outside: hashed, it is always a proper key. */
const sourceKey = (source: string): string => toHex(sha256(utf8(source))).slice(0, 16);
const looseKey = (source: string, sequence: number): string =>
  `gossip/class/loose/${sourceKey(source)}/${keyOf(sequence)}`;
