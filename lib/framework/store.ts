/**
 * The durable key-value store of a service: small values under text keys, written before anything is acted on.
 *
 * Calls are synchronous on purpose: when one returns, what it wrote is on disk (if not, it threw), and nothing else in the
 * process ran in between. That lets a caller guarantee "persisted before acted on" without a lock.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { Static, TSchema } from 'typebox';
import { DstackError } from '../protocol/errors.ts';
import { parseJson } from '../protocol/schema.ts';

export type StoreOperation = { kind: 'put'; key: string; value: string } | { kind: 'delete'; key: string };

export interface ListOptions {
  /** Only keys strictly after this one (the last key of the previous page). */
  after?: string;
  /** At most this many; 1000 by default. */
  limit?: number;
}

export interface Store {
  get(key: string): string | undefined;
  put(key: string, value: string): void;
  delete(key: string): void;
  /** Entries whose key starts with `prefix`, in byte order of their keys. */
  list(prefix: string, options?: ListOptions): { key: string; value: string }[];
  /** How many keys start with `prefix`. */
  count(prefix: string): number;
  /**
   * All operations or, after a crash or an error, none.
   * @param when 'soon' is for what is only done again if it is lost: a crash of the process loses nothing, a loss of power what was
   * written last, and never what was written before something that is there. It spares the wait for the disk
   */
  batch(operations: readonly StoreOperation[], when?: 'now' | 'soon'): void;
  close(): void;
}

/** The largest value, in bytes. */
export const VALUE_MAX_BYTES = 1024 * 1024;
const KEY_MAX_BYTES = 512;

/**
 * A store in one SQLite file (WAL, synchronous=FULL: a returned call survives power loss). One process at a time: the
 * file is locked while the store is open, so that a relay started twice fails instead of paying twice.
 *
 * @param path a file, created with its folder if missing, readable by its owner only; `:memory:` for none
 * @throws STORE_OPEN when the file is not a usable store or another process has it
 */
export function openStore(path: string): Store {
  let db: DatabaseSync;
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    db = new DatabaseSync(path, { timeout: 1000 });
    // EXCLUSIVE before WAL: no shared-memory file, and a second opener is refused at its first statement.
    db.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;');
    db.exec(
      'CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT',
    );
    db.exec('BEGIN IMMEDIATE; COMMIT;');
    if (path !== ':memory:') chmodSync(path, 0o600);
  } catch (cause) {
    throw new DstackError(
      'STORE_OPEN',
      `cannot open the store ${path}: ${(cause as Error).message}; is another process using it?`,
      { cause },
    );
  }
  return new SqliteStore(db);
}

/** The keys of a store that begin with `prefix`, as a store of their own. Closing it closes nothing. */
export function partOf(store: Store, prefix: string): Store {
  return {
    get: (key) => store.get(prefix + key),
    put: (key, value) => store.put(prefix + key, value),
    delete: (key) => store.delete(prefix + key),
    list: (own, { after, ...options } = {}) =>
      store
        .list(prefix + own, { ...options, ...(after !== undefined && { after: prefix + after }) })
        .map(({ key, value }) => ({ key: key.slice(prefix.length), value })),
    count: (own) => store.count(prefix + own),
    batch: (operations, when) =>
      store.batch(
        operations.map((operation) => ({ ...operation, key: prefix + operation.key })),
        when,
      ),
    close: () => {},
  };
}

class SqliteStore implements Store {
  readonly #db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #delete: StatementSync;
  readonly #list: StatementSync;
  readonly #listAfter: StatementSync;
  readonly #count: StatementSync;
  readonly #counts = new Counts();

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#get = db.prepare('SELECT value FROM entries WHERE key = ?');
    // Two statements, not one, since only then it is known whether the key is new.
    this.#insert = db.prepare('INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING');
    this.#update = db.prepare('UPDATE entries SET value = ?2 WHERE key = ?1');
    this.#delete = db.prepare('DELETE FROM entries WHERE key = ?');
    // Each has one lower bound: of two, SQLite starts at the first, and reads every row up to the second.
    this.#list = db.prepare('SELECT key, value FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT ?');
    this.#listAfter = db.prepare(
      'SELECT key, value FROM entries WHERE key > ? AND key < ? ORDER BY key LIMIT ?',
    );
    this.#count = db.prepare('SELECT count(*) AS n FROM entries WHERE key >= ? AND key < ?');
  }

  get(key: string): string | undefined {
    const row = this.#get.get(key);
    return row === undefined ? undefined : String(row.value);
  }

  put(key: string, value: string): void {
    this.batch([{ kind: 'put', key, value }]);
  }

  delete(key: string): void {
    this.#write({ kind: 'delete', key });
  }

  list(prefix: string, { after, limit = 1000 }: ListOptions = {}): { key: string; value: string }[] {
    const rows =
      after === undefined || after < prefix
        ? this.#list.all(prefix, endOf(prefix), limit)
        : this.#listAfter.all(after, endOf(prefix), limit);
    return rows.map((row) => ({ key: String(row.key), value: String(row.value) }));
  }

  count(prefix: string): number {
    return this.#counts.of(prefix, () => Number(this.#count.get(prefix, endOf(prefix))?.n ?? 0));
  }

  batch(operations: readonly StoreOperation[], when: 'now' | 'soon' = 'now'): void {
    for (const operation of operations) checkSize(operation);
    // The log of changes is in order: what is written with FULL takes all before it to the disk.
    if (when === 'soon') this.#db.exec('PRAGMA synchronous=NORMAL');
    try {
      this.#commit(operations);
    } finally {
      if (when === 'soon') this.#db.exec('PRAGMA synchronous=FULL');
    }
  }

  #commit(operations: readonly StoreOperation[]): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const operation of operations) this.#write(operation);
      this.#db.exec('COMMIT');
    } catch (cause) {
      this.#db.exec('ROLLBACK');
      this.#counts.forget();
      throw new DstackError('STORE_WRITE', `the store could not be written: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  #write(operation: StoreOperation): void {
    const { key } = operation;
    if (operation.kind === 'delete') this.#counts.add(key, -Number(this.#delete.run(key).changes));
    else if (this.#insert.run(key, operation.value).changes === 0) this.#update.run(key, operation.value);
    else this.#counts.add(key, 1);
  }
}

/**
 * How many keys have a prefix, for the prefixes that were asked about last: counting reads every row, and whoever keeps within a
 * bound asks at each write. Nobody else writes to the file while it is open.
 */
class Counts {
  readonly #known = new Map<string, number>();

  of(prefix: string, count: () => number): number {
    const known = this.#known.get(prefix) ?? count();
    // Moved to the end: the first is the one that was asked about longest ago.
    this.#known.delete(prefix);
    this.#known.set(prefix, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_COUNTS && oldest !== undefined) this.#known.delete(oldest);
    return known;
  }

  add(key: string, change: number): void {
    for (const [prefix, known] of this.#known) {
      if (key.startsWith(prefix)) this.#known.set(prefix, known + change);
    }
  }

  forget(): void {
    this.#known.clear();
  }
}

/** Prefixes whose counts are kept. */
const MAX_COUNTS = 32;

/** The first key after every key with this prefix: keys are ASCII, U+FFFF sorts after all of them. */
const endOf = (prefix: string): string => `${prefix}\uffff`;

function checkSize(operation: StoreOperation): void {
  // Printable ASCII only: byte order and string order are then the same, and a key can be shown in a log.
  if (!/^[\x21-\x7e]+$/.test(operation.key) || operation.key.length > KEY_MAX_BYTES) {
    throw new DstackError(
      'STORE_KEY',
      `not a key of the store: ${JSON.stringify(operation.key.slice(0, 80))}`,
    );
  }
  if (operation.kind === 'put' && Buffer.byteLength(operation.value) > VALUE_MAX_BYTES) {
    throw new DstackError(
      'STORE_VALUE',
      `${operation.key} has a value of more than ${VALUE_MAX_BYTES} bytes`,
    );
  }
}

/** A stored value that does not have the form it should have. */
export interface Spoiled {
  id: string;
  text: string;
  reason: string;
}

/**
 * Values of one kind under one prefix, stored as JSON and checked against their schema when read: a file is input too.
 * `prefix` ends with a slash.
 */
export class Table<T extends TSchema> {
  readonly #store: Store;
  readonly #schema: T;
  readonly prefix: string;

  constructor(store: Store, prefix: string, schema: T) {
    this.#store = store;
    this.#schema = schema;
    this.prefix = prefix;
  }

  /** @throws STORE_CORRUPT when the stored value does not match the schema */
  get(id: string): Static<T> | undefined {
    const text = this.#store.get(this.prefix + id);
    return text === undefined ? undefined : this.#parse(this.prefix + id, text);
  }

  put(id: string, value: Static<T>): void {
    this.#store.batch([this.putting(id, value)]);
  }

  delete(id: string): void {
    this.#store.delete(this.prefix + id);
  }

  /** A put as part of a batch. @throws STORE_VALUE for a value that could not be read back */
  putting(id: string, value: Static<T>): StoreOperation {
    const text = JSON.stringify(value);
    parseJson(
      this.#schema,
      text,
      'STORE_VALUE',
      `what is to be stored as ${this.prefix}${id}`,
      VALUE_MAX_BYTES,
    );
    return { kind: 'put', key: this.prefix + id, value: text };
  }

  /** A delete as part of a batch. */
  deleting(id: string): StoreOperation {
    return { kind: 'delete', key: this.prefix + id };
  }

  list(options: ListOptions = {}): { id: string; value: Static<T> }[] {
    const after = options.after === undefined ? {} : { after: this.prefix + options.after };
    return this.#store.list(this.prefix, { ...options, ...after }).map(({ key, value }) => ({
      id: key.slice(this.prefix.length),
      value: this.#parse(key, value),
    }));
  }

  count(): number {
    return this.#store.count(this.prefix);
  }

  /** Whether there is a value, readable or not. */
  has(id: string): boolean {
    return this.#store.get(this.prefix + id) !== undefined;
  }

  /** Like `list`, but returns unreadable values separately: one spoiled value must not hide the others. */
  sift(options: ListOptions = {}): { sound: { id: string; value: Static<T> }[]; spoiled: Spoiled[] } {
    const sound: { id: string; value: Static<T> }[] = [];
    const spoiled: Spoiled[] = [];
    const after = options.after === undefined ? {} : { after: this.prefix + options.after };
    for (const { key, value: text } of this.#store.list(this.prefix, { ...options, ...after })) {
      const id = key.slice(this.prefix.length);
      try {
        sound.push({ id, value: this.#parse(key, text) });
      } catch (error) {
        spoiled.push({ id, text, reason: (error as Error).message });
      }
    }
    return { sound, spoiled };
  }

  #parse(key: string, text: string): Static<T> {
    return parseJson(this.#schema, text, 'STORE_CORRUPT', `the stored ${key}`, VALUE_MAX_BYTES);
  }
}
