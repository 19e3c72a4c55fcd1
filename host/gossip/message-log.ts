/**
 * The messages that this host holds, in the order in which they came: what peers and late subscribers are given.
 *
 * Bounded, in such a way that nobody's bad input keeps another's good input out. A message is *loose* until the relay says
 * that its subject (a request) is on chain; then it is *kept*. When there is no room left, whoever takes up most of it gives
 * way: among loose messages the source that sent most, among kept ones the subject with most messages, among copies about
 * one subject the source of most of them. Messages of this host and of the peers that it chose do not compete with those of
 * strangers at all. A copy that the node refused frees its place and is not taken again. What an audit needs for ever is in
 * the relay's archive, not here.
 */
import { randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { type Store, type StoreOperation, Table } from '../../lib/framework/store.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { Count, HexOf, Strict } from '../../lib/protocol/schema.ts';
import type { Entry, SourcedEntry } from './carrier.ts';
import { isOfKind, type Message, type MessageForm, type MessageKinds, messageId } from './message-kind.ts';

const entrySchema = (kinds: MessageKinds) =>
  Strict({
    id: HexOf(32),
    message: kinds.schema,
    source: Type.String({ maxLength: 300 }),
    kept: Type.Boolean(),
  });
type EntrySchema = ReturnType<typeof entrySchema>;
type Stored = Static<EntrySchema>;
const SequenceSchema = Strict({ sequence: Count });
const IdentitySchema = Strict({ log: HexOf(16) });

export interface MessageLogLimits {
  /** Loose messages of all strangers. */
  loose: number;
  /** Loose messages of one source. */
  loosePerSource: number;
  /** Messages about requests that are on chain. */
  kept: number;
  /** Different messages of one kind about the same subject: a quote's signature can be altered without the log noticing. */
  perSubject: number;
  /** Sources with room of their own, `loosePerSource` each: the peers of this host's settings. */
  reserved: readonly string[];
}

const DEFAULT_LIMITS: MessageLogLimits = {
  loose: 1024,
  loosePerSource: 64,
  kept: 2048,
  perSubject: 8,
  reserved: [],
};

/** The source of what this host publishes itself. */
export const SELF = 'self';

/** Refused copies that are remembered: about one subject, and in total. */
const MAX_REFUSED = { perSubject: 64, all: 4096 };

export class MessageLog {
  /** Names this log: positions in it mean nothing once the store was lost. */
  readonly identity: string;
  readonly #store: Store;
  readonly #kinds: MessageKinds;
  readonly #limits: MessageLogLimits;
  readonly #entries: Table<EntrySchema>;
  readonly #ids: Table<typeof SequenceSchema>;
  /** Copies that are refused for now; not stored: a new process finds out again. */
  readonly #tried = new Set<string>();
  #last: number;

  /** @param kinds those of the messages that it may hold */
  constructor(store: Store, kinds: MessageKinds, limits: Partial<MessageLogLimits> = {}) {
    this.#store = store;
    this.#kinds = kinds;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#entries = new Table(store, 'gossip/message/', entrySchema(kinds));
    this.#ids = new Table(store, 'gossip/id/', SequenceSchema);
    const identities = new Table(store, 'gossip/', IdentitySchema);
    if (identities.get('log') === undefined) identities.put('log', { log: toHex(randomBytes(16)) });
    this.identity = identities.get('log')!.log;
    this.#last = new Table(store, 'gossip/', SequenceSchema).get('last')?.sequence ?? 0;
    this.#dropUnreadable();
  }

  /** The newest message's sequence; 0 for an empty log. */
  get last(): number {
    return this.#last;
  }

  get(id: string): Entry | undefined {
    const found = this.#ids.get(id);
    if (found === undefined) return undefined;
    const stored = this.#entries.get(keyOf(found.sequence));
    return stored === undefined ? undefined : { sequence: found.sequence, id, message: stored.message };
  }

  /**
   * Adds a message that passed its checks; `fresh` is false when it was there already, was refused, or there is no room for it.
   */
  add(message: Message, source: string): { entry: Entry; fresh: boolean } {
    const id = messageId(message);
    const known = this.get(id);
    if (known !== undefined) {
      this.#adopt(known.sequence, source);
      return { entry: known, fresh: false };
    }
    const subject = this.subjectOf(message);
    const refused = this.#store.get(refusedKey(subject, id)) !== undefined;
    if (source !== SELF && (refused || !this.#hasPlace(message.type, subject, source))) {
      return { entry: { sequence: 0, id, message }, fresh: false };
    }
    // Messages about a kept subject are kept too: it was on chain when it was marked.
    const stored: Stored = { id, message, source, kept: this.isKept(subject) };
    return { entry: this.#append(stored, []), fresh: true };
  }

  /**
   * Moves a message behind all others, so that it is sent once more: whoever had no room for it may have some now. Undefined
   * when it is not held.
   */
  renew(id: string): Entry | undefined {
    const found = this.#ids.get(id);
    const stored = found === undefined ? undefined : this.#entries.get(keyOf(found.sequence));
    if (found === undefined || stored === undefined) return undefined;
    return this.#append(stored, this.#removing(keyOf(found.sequence), stored));
  }

  /** The node refused this copy: it is removed, and not taken from anyone again. @param id as `messageId` gives it */
  refuse(id: string): void {
    const found = this.#ids.get(id);
    const stored = found === undefined ? undefined : this.#entries.get(keyOf(found.sequence));
    if (found === undefined || stored === undefined) return;
    const subject = this.subjectOf(stored.message);
    this.#store.batch([
      ...this.#removing(keyOf(found.sequence), stored),
      { kind: 'put', key: refusedKey(subject, id), value: '1' },
    ]);
    this.#trimRefused(subject);
  }

  /** The node refused this copy for now: it stays, but gives its place to a copy that was not tried. */
  tried(id: string): void {
    this.#tried.add(id);
    if (this.#tried.size > this.#limits.kept) this.#tried.delete(this.#tried.values().next().value!);
  }

  /** Nothing more will come of a subject: all messages about it are removed. */
  forget(subject: string): void {
    const operations: StoreOperation[] = [{ kind: 'delete', key: keptKey(subject) }];
    for (const type of this.#kinds.types) {
      for (const { key } of this.#subjects(type, subject)) {
        const stored = this.#entries.get(lastOf(key));
        if (stored !== undefined) operations.push(...this.#removing(lastOf(key), stored));
      }
    }
    for (const { key } of this.#store.list(`gossip/refused/${subject}/`)) {
      operations.push({ kind: 'delete', key });
    }
    this.#store.batch(operations);
  }

  /** Messages after a sequence, oldest first. */
  after(sequence: number, limit: number): SourcedEntry[] {
    return this.#entries.list({ after: keyOf(sequence), limit }).map(({ id, value }) => ({
      sequence: Number(id),
      id: value.id,
      message: value.message,
      source: value.source,
    }));
  }

  /** What a message is about, 64 hex digits. */
  subjectOf(message: Message): string {
    return this.#kinds.of(message).subjectOf(message);
  }

  /** Every message of one kind about a subject, oldest first. */
  about<M extends Message>(kind: MessageForm<M>, subject: string): M[] {
    return this.#subjects(kind.type, subject).flatMap(({ value }) => {
      const message = this.get(value)?.message;
      return message !== undefined && isOfKind(kind, message) ? [message] : [];
    });
  }

  /** What messages of one kind are held about. */
  subjects({ type }: Pick<MessageForm, 'type'>): Set<string> {
    const prefix = `gossip/subject/${type}/`;
    const limit = 2 * (this.#limits.kept + this.#limits.loose);
    return new Set(this.#store.list(prefix, { limit }).map(({ key }) => key.split('/')[3]!));
  }

  /** The subject is on chain: messages about it, and those still to come, are no longer loose. */
  keep(subject: string): void {
    if (this.isKept(subject)) return;
    const operations: StoreOperation[] = [{ kind: 'put', key: keptKey(subject), value: '1' }];
    for (const type of this.#kinds.types) {
      for (const { key } of this.#subjects(type, subject)) {
        const sequence = lastOf(key);
        const stored = this.#entries.get(sequence);
        if (stored === undefined || stored.kept) continue;
        const kept = { ...stored, kept: true };
        operations.push(
          { kind: 'delete', key: this.#classKey(stored, sequence) },
          this.#entries.putting(sequence, kept),
          { kind: 'put', key: this.#classKey(kept, sequence), value: stored.id },
        );
      }
    }
    this.#store.batch(operations);
    this.#evict('');
  }

  /** Whether a subject is known to be, or to have been, on chain. */
  isKept(subject: string): boolean {
    return this.#store.get(keptKey(subject)) !== undefined;
  }

  count(): { loose: number; kept: number } {
    return { loose: this.#store.count(LOOSE), kept: this.#store.count(KEPT) };
  }

  /** Entries that can't be read, say of a kind that only a later release knows, are dropped: they must not hide the others. */
  #dropUnreadable(): void {
    const { spoiled } = this.#entries.sift({ limit: MAX_ROWS });
    if (spoiled.length === 0) return;
    const sequences = new Set(spoiled.map(({ id }) => id));
    const rows = ['gossip/message/', 'gossip/subject/', LOOSE, KEPT].flatMap((prefix) =>
      this.#store.list(prefix, { limit: MAX_ROWS }),
    );
    const ids = this.#ids
      .list({ limit: MAX_ROWS })
      .filter(({ value }) => sequences.has(keyOf(value.sequence)));
    this.#store.batch([
      ...rows
        .filter(({ key }) => sequences.has(lastOf(key)))
        .map(({ key }) => ({ kind: 'delete' as const, key })),
      ...ids.map(({ id }) => this.#ids.deleting(id)),
    ]);
  }

  #subjects(type: string, subject: string): { key: string; value: string }[] {
    return this.#store.list(`gossip/subject/${type}/${subject}/`, { limit: this.#limits.perSubject + 1 });
  }

  #append(stored: Stored, before: readonly StoreOperation[]): Entry {
    const { id, message, source } = stored;
    const sequence = this.#last + 1;
    const key = keyOf(sequence);
    this.#store.batch([
      ...before,
      this.#entries.putting(key, stored),
      this.#ids.putting(id, { sequence }),
      { kind: 'put', key: this.#subjectKey(message, key), value: id },
      { kind: 'put', key: this.#classKey(stored, key), value: id },
      { kind: 'put', key: 'gossip/last', value: JSON.stringify({ sequence }) },
    ]);
    this.#last = sequence;
    this.#evict(source);
    return { sequence, id, message };
  }

  #removing(sequence: string, stored: Stored): StoreOperation[] {
    return [
      { kind: 'delete', key: this.#classKey(stored, sequence) },
      { kind: 'delete', key: this.#subjectKey(stored.message, sequence) },
      this.#ids.deleting(stored.id),
      this.#entries.deleting(sequence),
    ];
  }

  #classKey({ kept, source, message }: Stored, sequence: string): string {
    return kept ? `${KEPT}${this.subjectOf(message)}/${sequence}` : `${looseOf(source)}${sequence}`;
  }

  #subjectKey(message: Message, sequence: string): string {
    return `gossip/subject/${message.type}/${this.subjectOf(message)}/${sequence}`;
  }

  #isReserved(source: string): boolean {
    return source === SELF || this.#limits.reserved.includes(source);
  }

  /** A message that a stranger brought first and a peer of ours has too counts as the peer's: strangers can no longer push it out. */
  #adopt(sequence: number, source: string): void {
    if (!this.#isReserved(source)) return;
    const key = keyOf(sequence);
    const stored = this.#entries.get(key);
    if (stored === undefined || this.#isReserved(stored.source)) return;
    const adopted = { ...stored, source };
    this.#store.batch([
      { kind: 'delete', key: this.#classKey(stored, key) },
      this.#entries.putting(key, adopted),
      { kind: 'put', key: this.#classKey(adopted, key), value: stored.id },
    ]);
    this.#evict(source);
  }

  /**
   * Whether there is room for another copy from this source, after making some: a copy that was tried gives way, else the
   * newest copy of the source that has most, to a source that has fewer. Never this host's own.
   */
  #hasPlace(type: string, subject: string, source: string): boolean {
    const rows = this.#subjects(type, subject);
    if (rows.length < this.#limits.perSubject) return true;
    const copies = rows.flatMap(({ key }) => {
      const stored = this.#entries.get(lastOf(key));
      return stored === undefined ? [] : [{ sequence: lastOf(key), stored }];
    });
    const others = copies.filter(({ stored }) => stored.source !== SELF);
    const own = others.filter(({ stored }) => stored.source === source).length;
    const fullest = largest(others, ({ stored }) => stored.source);
    const victim =
      others.find(({ stored }) => this.#tried.has(stored.id)) ??
      (fullest.length >= own + 2 ? fullest.at(-1) : undefined);
    if (victim === undefined) return false;
    this.#store.batch(this.#removing(victim.sequence, victim.stored));
    return true;
  }

  #evict(source: string): void {
    const { loose, loosePerSource, kept } = this.#limits;
    if (source !== '') {
      const own = this.#store.list(looseOf(source), { limit: loosePerSource + 1 });
      if (own.length > loosePerSource) this.#drop(own[0]!.key);
    }
    if (this.#store.count(LOOSE) > loose) {
      // Known sources have room of their own: only strangers compete.
      const owned = new Set([SELF, ...this.#limits.reserved].map(sourceKey));
      const limit = loose + owned.size * loosePerSource + 1;
      const theirs = this.#store.list(LOOSE, { limit }).filter(({ key }) => !owned.has(groupOf(key)));
      if (theirs.length > loose) this.#drop(largest(theirs, ({ key }) => groupOf(key))[0]!.key);
    }
    // All messages about a subject become kept at once.
    for (let over = this.#store.count(KEPT) - kept; over > 0; over -= 1) this.#dropKept();
  }

  /** Of the subject with most messages: its newest spare copy, since more than one is rarely of use; else its oldest message. */
  #dropKept(): void {
    const rows = largest(this.#store.list(KEPT), ({ key }) => groupOf(key));
    const copies = rows.filter(({ key }) => {
      const message = this.#entries.get(lastOf(key))?.message;
      return message !== undefined && this.#kinds.of(message).hasSpareCopies === true;
    });
    this.#drop((copies.length > 1 ? copies.at(-1)! : rows[0]!).key);
  }

  /** @param key of the message in its class */
  #drop(key: string): void {
    const sequence = lastOf(key);
    const stored = this.#entries.get(sequence);
    if (stored === undefined) return;
    const subject = this.subjectOf(stored.message);
    this.#store.batch(this.#removing(sequence, stored));
    // The mark goes with the last message about its subject: the store is not for ever.
    if (stored.kept && this.#store.count(`${KEPT}${subject}/`) === 0) this.#store.delete(keptKey(subject));
  }

  #trimRefused(subject: string): void {
    const own = `gossip/refused/${subject}/`;
    if (this.#store.count(own) > MAX_REFUSED.perSubject) {
      this.#store.delete(this.#store.list(own, { limit: 1 })[0]!.key);
    }
    if (this.#store.count('gossip/refused/') > MAX_REFUSED.all) {
      const all = this.#store.list('gossip/refused/', { limit: MAX_REFUSED.all + 1 });
      this.#store.delete(largest(all, ({ key }) => key.split('/')[2]!)[0]!.key);
    }
  }
}

/** More than a log has of any sort. */
const MAX_ROWS = 100_000;
const LOOSE = 'gossip/class/loose/';
const KEPT = 'gossip/class/kept/';

/** Sixteen digits, so that the store's order is that of the numbers. */
const keyOf = (sequence: number): string => String(sequence).padStart(16, '0');
const lastOf = (key: string): string => key.slice(key.lastIndexOf('/') + 1);
/** The source of a loose message, the subject of a kept one. */
const groupOf = (key: string): string => key.split('/')[3]!;
/** A source is an address or a URL from outside: hashed, it is always a proper key. */
const sourceKey = (source: string): string => toHex(sha256(utf8(source))).slice(0, 16);
const looseOf = (source: string): string => `${LOOSE}${sourceKey(source)}/`;
const keptKey = (subject: string): string => `gossip/kept/${subject}`;
const refusedKey = (subject: string, id: string): string => `gossip/refused/${subject}/${id}`;

/** The largest group, oldest first; of equal ones the one with the oldest member. */
function largest<Item extends { key: string } | { sequence: string }>(
  items: readonly Item[],
  groupOf: (item: Item) => string,
): Item[] {
  const sequenceOf = (item: Item): string => ('key' in item ? lastOf(item.key) : item.sequence);
  const groups = Map.groupBy(
    items.toSorted((a, b) => (sequenceOf(a) < sequenceOf(b) ? -1 : 1)),
    groupOf,
  );
  return [...groups.values()].reduce((most, group) => (group.length > most.length ? group : most), []);
}
