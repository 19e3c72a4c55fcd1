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
  /** All operations or, after a crash or an error, none. */
  batch(operations: readonly StoreOperation[]): void;
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

class SqliteStore implements Store {
  readonly #db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #list: StatementSync;
  readonly #count: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#get = db.prepare('SELECT value FROM entries WHERE key = ?');
    this.#put = db.prepare(
      'INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
    this.#delete = db.prepare('DELETE FROM entries WHERE key = ?');
    this.#list = db.prepare(
      'SELECT key, value FROM entries WHERE key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?',
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
    this.#delete.run(key);
  }

  list(prefix: string, options: ListOptions = {}): { key: string; value: string }[] {
    const rows = this.#list.all(options.after ?? '', prefix, endOf(prefix), options.limit ?? 1000);
    return rows.map((row) => ({ key: String(row.key), value: String(row.value) }));
  }

  count(prefix: string): number {
    return Number(this.#count.get(prefix, endOf(prefix))?.n ?? 0);
  }

  batch(operations: readonly StoreOperation[]): void {
    for (const operation of operations) checkSize(operation);
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const operation of operations) {
        if (operation.kind === 'put') this.#put.run(operation.key, operation.value);
        else this.#delete.run(operation.key);
      }
      this.#db.exec('COMMIT');
    } catch (cause) {
      this.#db.exec('ROLLBACK');
      throw new DstackError('STORE_WRITE', `the store could not be written: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

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
