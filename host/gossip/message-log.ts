/**
 * The messages that this host holds, in the order in which they came: what peers and late subscribers are given.
 *
 * Bounded, in such a way that nobody's bad input keeps another's good input out. A message is *loose* until the relay says
 * that its subject (a request) is on chain; then it is *kept*, until the relay says that nothing more will come of it. When there
 * is no room left, whoever takes up most of it gives way: among loose messages the source that sent most, among kept ones the
 * subject with most messages, among copies about one subject the source of most of them. Messages of this host and of the peers
 * that it chose do not compete with those of strangers at all. A copy that the node refused frees its place and is not taken
 * again. What an audit needs for ever is in the relay's archive, not here.
 *
 * The more requests are on chain, the more are on their way to it: room for loose messages grows with what is kept, as far as bytes go.
 */
import { randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { type Store, type StoreOperation, Table } from '../../lib/framework/store.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { Count, HexOf, Strict } from '../../lib/protocol/schema.ts';
import type { Entry, SourcedEntry } from './carrier.ts';
import { KeptSubjects } from './kept-subjects.ts';
import { type IndexRow, MessageIndex } from './message-index.ts';
import { isOfKind, type Message, type MessageForm, type MessageKinds, messageId } from './message-kind.ts';
import { Sought } from './sought.ts';

const entrySchema = (kinds: MessageKinds) =>
  Strict({
    id: HexOf(32),
    message: kinds.schema,
    source: Type.String({ maxLength: 300 }),
    /** Of before: whether it is kept is told by its subject. */
    kept: Type.Optional(Type.Boolean()),
  });
type EntrySchema = ReturnType<typeof entrySchema>;
type Stored = Static<EntrySchema>;
const SequenceSchema = Strict({ sequence: Count });
const IdentitySchema = Strict({ log: HexOf(16) });

export interface MessageLogLimits {
  /** Loose messages of all strangers, while little is kept. */
  loose: number;
  /** Loose messages of one source, while little is kept. */
  loosePerSource: number;
  /** Characters of loose messages: of all strangers, and of one source, however much is kept. */
  looseSize: number;
  looseSizePerSource: number;
  /** Messages about requests that are on chain: a bound that only those reach who pay for a great many. */
  kept: number;
  /** Characters of them. */
  keptSize: number;
  /** Such requests, whether there are messages about them or not. */
  subjects: number;
  /** Different messages of one kind about the same subject: a quote's signature can be altered without the log noticing. */
  perSubject: number;
  /** Sources with room of their own, `loosePerSource` each: the peers of this host's settings. */
  reserved: readonly string[];
}

const DEFAULT_LIMITS: MessageLogLimits = {
  loose: 1024,
  loosePerSource: 64,
  looseSize: 256 * 1024 * 1024,
  looseSizePerSource: 16 * 1024 * 1024,
  kept: 65_536,
  keptSize: 512 * 1024 * 1024,
  subjects: 100_000,
  perSubject: 8,
  reserved: [],
};
/** Room for loose messages grows up to so many times. */
const GROWTH = 32;

/** The source of what this host publishes itself. */
export const SELF = 'self';

/** Refused copies that are remembered: about one subject, and in total. */
const MAX_REFUSED = { perSubject: 64, all: 4096 };
/** Subjects that are removed without a turn for the rest of the process. */
const EXPIRED_AT_ONCE = 100;
/** Copies refused for now that are remembered. */
const MAX_TRIED = 4096;

export class MessageLog {
  /** Names this log: positions in it mean nothing once the store was lost. */
  readonly identity: string;
  /** Subjects of which there should be messages and are none. */
  readonly sought = new Sought();
  readonly #store: Store;
  readonly #kinds: MessageKinds;
  readonly #limits: MessageLogLimits;
  readonly #entries: Table<EntrySchema>;
  readonly #kept: KeptSubjects;
  readonly #index: MessageIndex;
  /** Subjects of copies that the node refused, by id, as the store has them. */
  readonly #refused = new Map<string, string>();
  /** Copies that are refused for now; not stored: a new process finds out again. */
  readonly #tried = new Set<string>();
  #last: number;

  /** @param kinds those of the messages that it may hold */
  constructor(store: Store, kinds: MessageKinds, limits: Partial<MessageLogLimits> = {}) {
    this.#store = store;
    this.#kinds = kinds;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#entries = new Table(store, 'gossip/message/', entrySchema(kinds));
    this.#kept = new KeptSubjects(store);
    this.#index = new MessageIndex((subject) => this.#kept.has(subject));
    const identities = new Table(store, 'gossip/', IdentitySchema);
    if (identities.get('log') === undefined) identities.put('log', { log: toHex(randomBytes(16)) });
    this.identity = identities.get('log')!.log;
    this.#last = new Table(store, 'gossip/', SequenceSchema).get('last')?.sequence ?? 0;
    this.#load();
  }

  /** The newest message's sequence; 0 for an empty log. */
  get last(): number {
    return this.#last;
  }

  get(id: string): Entry | undefined {
    const found = this.#index.get(id);
    const stored = found && this.#entries.get(keyOf(found.sequence));
    return stored && { sequence: found.sequence, id, message: stored.message };
  }

  /** Whether the message with this id is held. */
  holds(id: string): boolean {
    return this.#index.get(id) !== undefined;
  }

  /**
   * Whether a message is held (its sequence) or is never to be taken again (0); undefined when it would be news. Whoever
   * asks has it: a peer's word counts as its copy.
   */
  place(id: string, source: string): number | undefined {
    const found = this.#index.get(id);
    if (found === undefined) return this.#refused.has(id) && source !== SELF ? 0 : undefined;
    if (this.#isReserved(source) && !this.#isReserved(found.source)) this.#adopt(found, source);
    return found.sequence;
  }

  /** Ids after a sequence, oldest first. */
  idsAfter(sequence: number, limit: number): IndexRow[] {
    return this.#index.after(sequence, limit);
  }

  /** Ids of messages about a subject, oldest first. */
  idsAbout(subject: string): string[] {
    return this.#index.about(subject).map(({ id }) => id);
  }

  /**
   * Adds a message that passed its checks; `fresh` is false when it was there already, was refused, or there is no room for it.
   */
  add(message: Message, source: string): { entry: Entry; fresh: boolean } {
    const id = messageId(message);
    const place = this.place(id, source);
    if (place !== undefined) return { entry: { sequence: place, id, message }, fresh: false };
    const subject = this.subjectOf(message);
    if (source !== SELF && !this.#hasPlace(message.type, subject, source)) {
      return { entry: { sequence: 0, id, message }, fresh: false };
    }
    return { entry: this.#append({ id, message, source }), fresh: true };
  }

  /**
   * Moves a message behind all others, so that it is sent once more: whoever had no room for it may have some now. Undefined
   * when it is not held.
   */
  renew(id: string): Entry | undefined {
    const row = this.#index.get(id);
    const stored = row && this.#entries.get(keyOf(row.sequence));
    return stored && this.#append(stored, row);
  }

  /** The node refused this copy: it is removed, and not taken from anyone again. @param id as `messageId` gives it */
  refuse(id: string): void {
    const row = this.#index.get(id);
    if (row === undefined) return;
    this.#store.batch([this.#removing(row), { kind: 'put', key: refusedKey(row.subject, id), value: '1' }]);
    this.#index.delete(id);
    this.#refused.set(id, row.subject);
    this.#trimRefused(row.subject);
  }

  /** The node refused this copy for now: it stays, but gives its place to a copy that was not tried. */
  tried(id: string): void {
    this.#tried.add(id);
    if (this.#tried.size > MAX_TRIED) this.#tried.delete(this.#tried.values().next().value!);
  }

  /** Nothing more will come of a subject: all messages about it are removed. */
  forget(subject: string): void {
    const refused = [...this.#refused].filter(([, about]) => about === subject).map(([id]) => id);
    const rows = this.#index.about(subject);
    // What is there again after a loss of power is forgotten again.
    this.#store.batch(
      [
        ...rows.map((row) => this.#removing(row)),
        ...this.#kept.ending(subject),
        ...refused.map((id) => ({ kind: 'delete' as const, key: refusedKey(subject, id) })),
      ],
      'soon',
    );
    // While it is kept: the index goes by that.
    for (const { id } of rows) this.#index.delete(id);
    this.#kept.ended(subject);
    for (const id of refused) this.#refused.delete(id);
    this.sought.delete(subject);
  }

  /** Messages after a sequence, oldest first. */
  after(sequence: number, limit: number): SourcedEntry[] {
    return this.#index.after(sequence, limit).flatMap(({ sequence: place, id, source }) => {
      const stored = this.#entries.get(keyOf(place));
      return stored === undefined ? [] : [{ sequence: place, id, source, message: stored.message }];
    });
  }

  /** What a message is about, 64 hex digits. */
  subjectOf(message: Message): string {
    return this.#kinds.of(message).subjectOf(message);
  }

  /** Every message of one kind about a subject, oldest first. */
  about<M extends Message>(kind: MessageForm<M>, subject: string): M[] {
    return this.#copies(kind.type, subject).flatMap(({ id }) => {
      const message = this.get(id)?.message;
      return message !== undefined && isOfKind(kind, message) ? [message] : [];
    });
  }

  /** What messages of one kind are held about, at any time: not a copy. */
  subjects({ type }: Pick<MessageForm, 'type'>): ReadonlySet<string> {
    return this.#index.subjects(type);
  }

  /**
   * The subject is on chain: messages about it, and those still to come, are no longer loose.
   * @param until the last block at which they are of use; left out while that is not known
   */
  keep(subject: string, until?: number): void {
    const wasKept = this.#kept.has(subject);
    this.#kept.add(subject, until);
    if (wasKept) return;
    this.#index.keep(subject);
    this.#makeRoom();
    const isEmpty = (other: string) => other !== subject && this.#index.about(other).length === 0;
    for (const other of this.#kept.surplus(this.#limits.subjects, isEmpty)) this.forget(other);
  }

  /** Whether a subject is known to be, or to have been, on chain. */
  isKept(subject: string): boolean {
    return this.#kept.has(subject);
  }

  /** Subjects that are on chain and whose end is known, with the last block at which messages about them are of use. */
  onChain(): [subject: string, until: number][] {
    return this.#kept.ends();
  }

  /** The chain has got to this block: what is of no use any more is removed. @returns whether there may be more of it */
  expire(block: number): boolean {
    this.sought.expire(block);
    const over = this.#kept.over(block, EXPIRED_AT_ONCE);
    for (const subject of over) this.forget(subject);
    return over.length === EXPIRED_AT_ONCE;
  }

  /** Messages about this subject should be here: carriers ask for them. @param until the last block at which they are of use */
  seek(subject: string, until?: number): void {
    this.sought.add(subject, until);
  }

  count(): { loose: number; kept: number } {
    return this.#index.count;
  }

  /**
   * Reads where everything stands. Entries that can't be read, say of a kind that only a later release knows, are dropped: they
   * must not hide the others.
   */
  #load(): void {
    const { sound, spoiled } = this.#entries.sift({ limit: MAX_ROWS });
    const twice: StoreOperation[] = [];
    for (const { id, value } of sound) {
      const before = this.#index.get(value.id);
      if (before !== undefined) {
        twice.push(this.#removing(before));
        this.#index.delete(value.id);
      }
      this.#index.add(this.#rowOf(Number(id), value));
    }
    for (const { key } of this.#store.list('gossip/refused/', { limit: MAX_REFUSED.all + 1 })) {
      const [, , subject, id] = key.split('/');
      this.#refused.set(id!, subject!);
    }
    // What is on chain and has not come, or had to make room: nobody says so again.
    for (const [subject, until] of this.#kept.ends()) {
      if (this.#index.about(subject).length === 0) this.seek(subject, until);
    }
    // Rows by which messages were found before.
    const old = ['gossip/id/', 'gossip/subject/', 'gossip/class/'].flatMap((prefix) =>
      this.#store.list(prefix, { limit: MAX_ROWS }),
    );
    this.#store.batch([
      ...twice,
      ...spoiled.map(({ id }) => this.#entries.deleting(id)),
      ...old.map(({ key }) => ({ kind: 'delete' as const, key })),
    ]);
  }

  #rowOf(sequence: number, { id, message, source }: Stored): IndexRow {
    const size = JSON.stringify(message).length;
    return { sequence, id, source, size, type: message.type, subject: this.subjectOf(message) };
  }

  #copies(type: string, subject: string): IndexRow[] {
    return this.#index.about(subject).filter((row) => row.type === type);
  }

  /** @param before the same message's row, which this one takes the place of */
  #append({ id, message, source }: Stored, before?: IndexRow): Entry {
    const sequence = this.#last + 1;
    const row = this.#rowOf(sequence, { id, message, source });
    this.#store.batch([
      ...(before === undefined ? [] : [this.#removing(before)]),
      this.#entries.putting(keyOf(sequence), { id, message, source }),
      { kind: 'put', key: 'gossip/last', value: JSON.stringify({ sequence }) },
    ]);
    this.#last = sequence;
    // Only now: a store that is full keeps what it had, and so does the index.
    if (before !== undefined) this.#index.delete(id);
    this.#index.add(row);
    this.sought.delete(row.subject);
    this.#makeRoom(source);
    return { sequence, id, message };
  }

  /** What removes a message, for a batch that is written at once. */
  #removing({ sequence }: IndexRow): StoreOperation {
    return this.#entries.deleting(keyOf(sequence));
  }

  #isReserved(source: string): boolean {
    return source === SELF || this.#limits.reserved.includes(source);
  }

  /** A message that a stranger brought first and a peer of ours has too counts as the peer's: strangers can no longer push it out. */
  #adopt({ id, sequence }: IndexRow, source: string): void {
    const stored = this.#entries.get(keyOf(sequence));
    if (stored === undefined) return;
    this.#entries.put(keyOf(sequence), { id: stored.id, message: stored.message, source });
    this.#index.move(id, source);
    this.#makeRoom(source);
  }

  /**
   * Whether there is room for another copy from this source, after making some: a copy that was tried gives way, else the
   * newest copy of the source that has most, to a source that has fewer. Never this host's own.
   */
  #hasPlace(type: string, subject: string, source: string): boolean {
    const copies = this.#copies(type, subject);
    if (copies.length < this.#limits.perSubject) return true;
    const others = copies.filter((row) => row.source !== SELF);
    const own = others.filter((row) => row.source === source).length;
    const fullest = largest(Map.groupBy(others, (row) => row.source).values());
    const victim =
      others.find(({ id }) => this.#tried.has(id)) ??
      (fullest.length >= own + 2 ? fullest.at(-1) : undefined);
    if (victim === undefined) return false;
    this.#drop(victim);
    return true;
  }

  /** Drops what is too much. @param source whose loose messages may be */
  #makeRoom(source?: string): void {
    const { kept, keptSize } = this.#limits;
    if (source !== undefined) {
      const own = () => this.#index.looseOf(source);
      if (own().size > this.#grown('loosePerSource')) this.#drop(first(own()));
      while (own().size > 1 && this.#index.looseSizeOf(source) > this.#limits.looseSizePerSource)
        this.#drop(first(own()));
    }
    this.#makeRoomOfStrangers();
    // All messages about a subject become kept at once.
    while (this.#index.count.kept > kept || this.#index.keptSize > keptSize) this.#dropKept();
  }

  /** Known sources have room of their own: only strangers compete. */
  #makeRoomOfStrangers(): void {
    const loose = this.#grown('loose');
    const { looseSize } = this.#limits;
    if (this.#index.count.loose <= loose && this.#index.looseSize <= looseSize) return;
    const theirs = [...this.#index.loose()].filter(([from]) => !this.#isReserved(from));
    const groups = theirs.map(([, rows]) => rows);
    if (groups.reduce((sum, { size }) => sum + size, 0) > loose) this.#drop(first(fullestOf(groups)));
    const sizes = () => theirs.map(([from]) => this.#index.looseSizeOf(from));
    while (sizes().reduce((sum, size) => sum + size, 0) > looseSize) {
      const largestOf = sizes();
      this.#drop(first(theirs[largestOf.indexOf(Math.max(...largestOf))]![1]));
    }
  }

  /** A limit on loose messages: the more is on chain, the more is on its way there. */
  #grown(limit: 'loose' | 'loosePerSource'): number {
    const least = this.#limits[limit];
    return Math.max(least, Math.min(GROWTH * least, 2 * this.#kept.size));
  }

  /** Of the subject with most messages: its newest spare copy, since more than one is rarely of use; else its oldest message. */
  #dropKept(): void {
    const rows = this.#index.mostKept();
    const copies = rows.filter(({ type }) => this.#kinds.isSpare(type));
    this.#drop((copies.length > 1 ? copies.at(-1) : rows[0])!);
  }

  #drop({ id, subject, sequence }: IndexRow): void {
    // The mark goes with the last message about its subject: the store is not for ever.
    const isLast = this.#index.about(subject).length === 1;
    this.#store.batch([
      this.#entries.deleting(keyOf(sequence)),
      ...(isLast ? this.#kept.ending(subject) : []),
    ]);
    this.#index.delete(id);
    if (isLast) this.#kept.ended(subject);
  }

  #trimRefused(subject: string): void {
    const own = [...this.#refused].filter(([, about]) => about === subject);
    if (own.length > MAX_REFUSED.perSubject) this.#forgetRefused(own[0]!);
    if (this.#refused.size <= MAX_REFUSED.all) return;
    this.#forgetRefused(largest(Map.groupBy(this.#refused, ([, about]) => about).values())[0]!);
  }

  #forgetRefused([id, subject]: [string, string]): void {
    this.#refused.delete(id);
    this.#store.delete(refusedKey(subject, id));
  }
}

/** More than a log has of any sort. */
const MAX_ROWS = 100_000;

/** Sixteen digits, so that the store's order is that of the numbers. */
const keyOf = (sequence: number): string => String(sequence).padStart(16, '0');
const refusedKey = (subject: string, id: string): string => `gossip/refused/${subject}/${id}`;

const first = (rows: Iterable<IndexRow>): IndexRow =>
  [...rows].reduce((a, b) => (b.sequence < a.sequence ? b : a));

/** The largest group; of equal ones the one with the oldest member. */
const fullestOf = (groups: readonly ReadonlySet<IndexRow>[]): ReadonlySet<IndexRow> =>
  groups.reduce((most, group) =>
    group.size > most.size || (group.size === most.size && first(group).sequence < first(most).sequence)
      ? group
      : most,
  );

/** The largest group; of equal ones the first. */
function largest<Item>(groups: Iterable<Item[]>): Item[] {
  let most: Item[] = [];
  for (const group of groups) if (group.length > most.length) most = group;
  return most;
}
