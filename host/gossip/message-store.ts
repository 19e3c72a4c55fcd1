/**
 * The log of messages as the wire of records sees it: a record is a member for as long as the log holds its message, and what comes in is a
 * message that the log admits or does not. Nothing is stored here: which records there are, in memory, and what of a peer is not whole yet.
 *
 *     peer ─► wire ─► add: a record of our form? parts all there? ─► Exchange.accept ─► a member
 */
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import type { Item, Verdict } from '../records/types.ts';
import type { RecordStore } from '../records/wire/types.ts';
import type { Exchange } from './carrier.ts';
import type { Charges } from './charges.ts';
import { idOf } from './message-kind.ts';
import { type MessageRecords, type PartList, wholeValueOf } from './message-records.ts';

export interface MessageStoreOptions {
  records: MessageRecords;
  exchange: Exchange;
  charges: Charges;
  /** Whose messages those of a peer with this key are: what the log bounds by. */
  sourceOf(key: string): string;
  /** Ends early when the carrier does. @returns whether it goes on */
  pause(milliseconds: number): Promise<boolean>;
  now?: () => number;
}

/**
 * Milliseconds for which what is of no use here is not asked for again; and what can't be judged yet: longer each time, or while the chain can't be read
 * all that is new would be fetched again and again.
 */
const USELESS_MS = 600_000;
const LATER_MS = { first: 1_000, most: 60_000 };
const MAX_PUT_OFF = 16_384;
/** Messages of one peer whose parts are on their way. */
const MAX_IN_PARTS = 4;
/** All are of this time: message-records.ts. */
const TIMESTAMP = 0;

/** A message whose parts are on their way from one peer. */
interface InParts {
  readonly list: PartList;
  readonly there: Map<string, Uint8Array>;
}

export class MessageStore implements RecordStore {
  readonly network: string;
  /** The log makes room by itself. */
  readonly stopped = undefined;
  readonly #options: MessageStoreOptions;
  readonly #now: () => number;
  /** Records of what the log holds, with the messages' ids; and the other way round. */
  readonly #members = new Map<string, string>();
  readonly #recordsOf = new Map<string, string>();
  /** Parts of what the log holds: of which messages, since several may have one in common, and which one of each. */
  readonly #parts = new Map<string, Map<string, number>>();
  /** Until when, by record, and for how long that was. */
  readonly #putOff = new Map<string, { until: number; pause: number }>();
  readonly #inParts = new Map<string, Map<string, InParts>>();
  /** What a peer sent is judged one after the other: an answer before what is sealed by it. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #listeners = new Set<(items: readonly Item[]) => void>();

  constructor(options: MessageStoreOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.network = options.records.network;
  }

  /** Messages that are members. */
  get count(): number {
    return this.#members.size;
  }

  /** Messages of which parts are on their way. */
  get unfinished(): number {
    return [...this.#inParts.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Whether it need not be asked for: it is here, or was of no use a while ago. */
  has(id: string): boolean {
    if (id === this.network || this.#members.has(id)) return true;
    return (this.#putOff.get(id)?.until ?? 0) > this.#now();
  }

  /** A message is held whole or not at all: a record without its value is none of our form. */
  lacksValue(): boolean {
    return false;
  }

  lackingValues(): string[] {
    return [];
  }

  /** In the order in which the log showed them: an answer before what is sealed by it. */
  inOrder(ids: readonly string[]): string[] {
    const wanted = new Set(ids);
    return [...this.#members.keys()].filter((id) => wanted.has(id));
  }

  get(id: string): Uint8Array | undefined {
    const { records, exchange } = this.#options;
    if (id === this.network) return records.genesis;
    const messageId = this.#members.get(id);
    const entry = messageId === undefined ? undefined : exchange.get(messageId);
    if (entry !== undefined) return records.encode(entry.message);
    for (const [whole, index] of this.#parts.get(id) ?? []) {
      const message = exchange.get(whole)?.message;
      if (message !== undefined) return records.encodePart(message, index);
    }
    return undefined;
  }

  *items(): Iterable<Item> {
    yield { timestamp: TIMESTAMP, id: this.network };
    for (const id of this.#members.keys()) yield { timestamp: TIMESTAMP, id };
  }

  subscribe(listener: (items: readonly Item[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  add(bytes: Uint8Array, from: string): Promise<Verdict> {
    const turn = (this.#turns.get(from) ?? Promise.resolve()).then(() => this.#take(bytes, from));
    const over = turn
      .catch(() => {})
      .then(() => {
        if (this.#turns.get(from) === over) this.#turns.delete(from);
      });
    this.#turns.set(from, over);
    return turn;
  }

  forget(from: string): void {
    this.#inParts.delete(from);
  }

  /** Messages that are in the log now: peers hear of those of which they have not. */
  show(messageIds: readonly string[]): void {
    const shown: Item[] = [];
    for (const messageId of messageIds) {
      if (this.#recordsOf.has(messageId)) continue;
      const entry = this.#options.exchange.get(messageId);
      if (entry === undefined) continue;
      const { id, parts } = this.#options.records.of(entry.message);
      this.#recordsOf.set(messageId, id);
      this.#members.set(id, messageId);
      this.#putOff.delete(id);
      for (const [index, part] of parts.entries())
        this.#parts.set(part, (this.#parts.get(part) ?? new Map()).set(messageId, index));
      shown.push({ timestamp: TIMESTAMP, id });
    }
    if (shown.length > 0) for (const listener of this.#listeners) listener(shown);
  }

  /** What the log does not hold any more is no member. @returns whether there was any */
  prune(): boolean {
    const { exchange } = this.#options;
    const gone = [...this.#recordsOf].filter(([messageId]) => !exchange.holds(messageId));
    for (const [messageId, id] of gone) {
      this.#recordsOf.delete(messageId);
      this.#members.delete(id);
    }
    if (gone.length > 0) {
      for (const [part, messages] of this.#parts) {
        for (const [messageId] of gone) messages.delete(messageId);
        if (messages.size === 0) this.#parts.delete(part);
      }
    }
    return gone.length > 0;
  }

  async #take(bytes: Uint8Array, from: string): Promise<Verdict> {
    try {
      const record = decodeRecord(bytes);
      const id = toHex(recordId(record));
      if (this.#members.has(id)) return { kind: 'known', id };
      const awaited = this.#awaiting(from, id);
      if (awaited.length > 0) return await this.#takePart(id, wholeValueOf(record).slice(), awaited, from);
      const said = this.#options.records.read(record);
      if (said instanceof Uint8Array) return await this.#judge(id, said, from);
      return await this.#whole(id, said, this.#beginParts(id, said, from), from);
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      return { kind: 'refused', code: error.code, message: error.message };
    }
  }

  /** The messages of this peer that wait for a part, with the identities of their records. */
  #awaiting(from: string, part: string): [string, InParts][] {
    return [...(this.#inParts.get(from) ?? [])].filter(
      ([, { list, there }]) => list.parts.includes(part) && !there.has(part),
    );
  }

  /** It is sent once, for all messages that have it in common. */
  async #takePart(
    part: string,
    value: Uint8Array,
    awaited: readonly [string, InParts][],
    from: string,
  ): Promise<Verdict> {
    for (const [, { there }] of awaited) there.set(part, value);
    const verdicts: Verdict[] = [];
    for (const [head, { list, there }] of awaited) verdicts.push(await this.#whole(head, list, there, from));
    const ids = verdicts.flatMap((verdict) => (verdict.kind === 'members' ? verdict.ids : []));
    return ids.length > 0 ? { kind: 'members', ids } : verdicts.at(-1)!;
  }

  #beginParts(id: string, list: PartList, from: string): Map<string, Uint8Array> {
    const own = this.#inParts.get(from) ?? new Map<string, InParts>();
    const there = own.get(id)?.there ?? new Map<string, Uint8Array>();
    own.delete(id);
    own.set(id, { list, there });
    if (own.size > MAX_IN_PARTS) own.delete(own.keys().next().value!);
    this.#inParts.set(from, own);
    return there;
  }

  async #whole(
    id: string,
    { parts }: PartList,
    there: ReadonlyMap<string, Uint8Array>,
    from: string,
  ): Promise<Verdict> {
    const missing = parts.filter((part) => !there.has(part));
    if (missing.length > 0) return { kind: 'waiting', id, missing };
    const own = this.#inParts.get(from);
    own?.delete(id);
    if (own?.size === 0) this.#inParts.delete(from);
    return await this.#judge(id, Buffer.concat(parts.map((part) => there.get(part)!)), from);
  }

  /** @param id of the record @param bytes the message's */
  async #judge(id: string, bytes: Uint8Array, from: string): Promise<Verdict> {
    const { exchange, sourceOf } = this.#options;
    const value = parsed(bytes);
    const messageId = toHex(sha256(bytes));
    if (idOf(value) !== messageId)
      throw new DstackError('GOSSIP_RECORD', 'the record of a message holds it in its canonical form');
    const source = sourceOf(from);
    try {
      const { entry, fresh } = await exchange.accept(value, source);
      if (entry.sequence === 0 || entry.id !== messageId) return this.#wait(id, USELESS_MS);
      this.show([messageId]);
      return fresh ? { kind: 'members', ids: [id] } : { kind: 'known', id };
    } catch (error) {
      const code = codeOf(error);
      if (error instanceof Retryable || exchange.isEarly(value, code)) return this.#later(id);
      return await this.#useless(id, source, exchange.isFault(value, code));
    }
  }

  /**
   * A message that is refused for good, or for as long as anyone knows. Its source may not know better: it pays, and is heard more slowly; only
   * who can't pay any more is one that breaks the rules.
   * @throws GOSSIP_CREDIT
   */
  async #useless(id: string, source: string, isFault: boolean): Promise<Verdict> {
    const { charges, pause } = this.#options;
    if (isFault) {
      charges.charge(source, 'GOSSIP_REFUSED');
      charges.check(source);
    } else {
      // However many connections it has.
      for (let rest = charges.useless(source); rest > 0 && (await pause(rest)); )
        rest = charges.useless(source);
    }
    return this.#wait(id, USELESS_MS);
  }

  #later(id: string): Verdict {
    const { first, most } = LATER_MS;
    const before = this.#putOff.get(id)?.pause;
    return this.#wait(id, before === undefined ? first : Math.min(most, 2 * before));
  }

  /** It is not asked for again at once, from anyone. */
  #wait(id: string, pause: number): Verdict {
    const until = this.#now() + pause;
    this.#putOff.delete(id);
    this.#putOff.set(id, { until, pause });
    if (this.#putOff.size > MAX_PUT_OFF) this.#putOff.delete(this.#putOff.keys().next().value!);
    return { kind: 'early', id, until };
  }
}

/** @throws GOSSIP_RECORD */
function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new DstackError('GOSSIP_RECORD', 'the record of a message holds its JSON', { cause });
  }
}
