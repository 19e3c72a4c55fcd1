/**
 * What was read of publications, and what was published: stored, so that a restart reads nothing twice that anyone may have filled with junk, and
 * pays for nothing twice.
 */
import { Type } from 'typebox';
import { type Store, Table } from '../../../lib/framework/store.ts';
import { Count, Strict } from '../../../lib/protocol/schema.ts';

/** `type` of the message that was admitted; none for what was of no use. */
const ReadSchema = Strict({ type: Type.Optional(Type.String({ maxLength: 32 })), at: Count });
const SentSchema = Strict({ block: Count, at: Count });

/** For how long it is remembered at least: longer than any request is open on chains with blocks of twelve seconds. Milliseconds. */
const KEPT_MS = 24 * 3_600_000;
/** Rows that are looked at in one go. */
const PAGE = 1_000;

export class Ledger {
  readonly #store: Store;
  readonly #read: Table<typeof ReadSchema>;
  readonly #sent: Table<typeof SentSchema>;
  readonly #now: () => number;

  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
    this.#read = new Table(store, 'gossip/calldata/read/', ReadSchema);
    this.#sent = new Table(store, 'gossip/calldata/sent/', SentSchema);
  }

  /** Whether a publication was read, and is not to be looked at again. */
  hasRead(subject: string, transaction: string): boolean {
    return this.#read.has(`${subject}/${transaction}`);
  }

  /** @param type of the message, if it was admitted */
  putRead(subject: string, transaction: string, type?: string): void {
    const row = { at: this.#now(), ...(type !== undefined && { type }) };
    // Anyone can cause any number of these; lost, one is read again.
    this.#store.batch([this.#read.putting(`${subject}/${transaction}`, row)], 'soon');
  }

  /** Subjects about which others have published something good, with the types of those messages. */
  published(): Map<string, Set<string>> {
    const found = new Map<string, Set<string>>();
    for (const { sound } of pagesOf(this.#read))
      for (const { id, value } of sound) {
        if (value.type === undefined) continue;
        const subject = id.slice(0, 64);
        found.set(subject, (found.get(subject) ?? new Set()).add(value.type));
      }
    return found;
  }

  /** The block at which this host published something about the subject; undefined when it has not. @param what its type, and the form of it */
  sentAt(subject: string, what: string): number | undefined {
    const { sound } = this.#sent.sift({ limit: 64, after: `${subject}/` });
    return sound.find(({ id }) => id === `${subject}/${what}`)?.value.block;
  }

  putSent(subject: string, what: string, block: number): void {
    this.#sent.put(`${subject}/${what}`, { block, at: this.#now() });
  }

  /** Forgets what is old and about nothing that is open. */
  prune(isOpen: (subject: string) => boolean): void {
    const old = this.#now() - KEPT_MS;
    // All of them: anyone can put as many before them as they pay for.
    for (const table of [this.#read, this.#sent])
      for (const { sound, spoiled } of pagesOf<{ at: number }>(table)) {
        const over = sound.filter(({ id, value }) => value.at < old && !isOpen(id.slice(0, 64)));
        this.#store.batch([...over, ...spoiled].map(({ id }) => table.deleting(id)));
      }
  }
}

interface Page<Value> {
  sound: { id: string; value: Value }[];
  spoiled: { id: string }[];
}

/** A table's rows, some at a time; those of a page may be deleted before the next one. */
function* pagesOf<Value>(table: {
  sift(options: { limit: number; after?: string }): Page<Value>;
}): Generator<Page<Value>> {
  for (let after: string | undefined; ; ) {
    const page = table.sift({ limit: PAGE, ...(after !== undefined && { after }) });
    const ids = [...page.sound, ...page.spoiled].map(({ id }) => id);
    yield page;
    if (ids.length < PAGE) return;
    after = ids.reduce((a, b) => (a > b ? a : b));
  }
}
