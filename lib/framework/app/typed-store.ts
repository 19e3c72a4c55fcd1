/**
 * What an enclave keeps: values of one type under keys of one type, in memory, in a file on the encrypted disk, or in the network's
 * store (docs/kv.md). Each value is checked against its schema when it is read: what lies on a disk or in a store is input too.
 *
 * A host can put an older state of a disk back. So what has to be the newest is asked of the chain, never of a store.
 */
import type { Static, TSchema } from 'typebox';
import { DstackError, messageOf } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/schema.ts';
import { openStore, VALUE_MAX_BYTES } from '../store.ts';

/** Of a key that is a text: each backing takes twice as many, and a name. */
const KEY_MAX_BYTES = 192;
const ENTRIES_MAX = 1000;

/** Where a store's texts are. Keys are printable ASCII. */
export interface Backing {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
  /** In order of the keys, strictly after `after`. */
  list(prefix: string, options: { after?: string; limit: number }): Promise<{ key: string; value: string }[]>;
  close(): Promise<void>;
}

/** Strings, in the order of their UTF-8; or whole numbers, in theirs. */
export type StoreKey = string | number;

/** Values of type V under keys of type K. */
export interface TypedStore<K extends StoreKey, V> {
  /** @throws STORE_CORRUPT when what is there has another form */
  get(key: K): Promise<V | undefined>;
  /** Durable when it resolves. @throws STORE_VALUE for what could not be read back */
  set(key: K, value: V): Promise<void>;
  delete(key: K): Promise<void>;
  /** In order of the keys. @param options.limit 1 to 1000, 100 by default. @throws STORE_LIMIT */
  entries(options?: { after?: K; limit?: number }): Promise<{ key: K; value: V }[]>;
}

/** Stores by name on one backing. */
export class Tables {
  readonly #backing: Backing;
  /** What the keys of each name are. */
  readonly #keys = new Map<string, 'strings' | 'numbers'>();

  constructor(backing: Backing) {
    this.#backing = backing;
  }

  /**
   * Of keys of up to 192 bytes of UTF-8.
   * @param name lower-case letters, digits and hyphens, and not that of a store of numbers. @throws STORE_NAME
   */
  strings<T extends TSchema>(name: string, schema: T): TypedStore<string, Static<T>> {
    const encode = (key: string) => {
      // What is no text (half of a pair of UTF-16) would be one key with all else that is none.
      if (typeof key !== 'string' || !key.isWellFormed() || Buffer.byteLength(key) > KEY_MAX_BYTES)
        throw new DstackError(
          'STORE_KEY',
          `${JSON.stringify(String(key).slice(0, 40))} is no key of ${name}: texts of up to ${KEY_MAX_BYTES} bytes are`,
        );
      return Buffer.from(key, 'utf8').toString('hex');
    };
    const decode = (text: string) => Buffer.from(text, 'hex').toString('utf8');
    return this.#table(name, 'strings', schema, encode, decode);
  }

  /** Of keys from 0 on. @param name as of `strings` */
  numbers<T extends TSchema>(name: string, schema: T): TypedStore<number, Static<T>> {
    const encode = (key: number) => {
      if (!Number.isSafeInteger(key) || key < 0)
        throw new DstackError('STORE_KEY', `${key} is no key of ${name}: whole numbers from 0 on are`);
      return String(key).padStart(16, '0');
    };
    return this.#table(name, 'numbers', schema, encode, Number);
  }

  close(): Promise<void> {
    return this.#backing.close();
  }

  #table<K extends StoreKey, T extends TSchema>(
    name: string,
    keys: 'strings' | 'numbers',
    schema: T,
    encode: (key: K) => string,
    decode: (text: string) => K,
  ): TypedStore<K, Static<T>> {
    if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(name))
      throw new DstackError('STORE_NAME', `${JSON.stringify(name.slice(0, 64))} is no name of a store`);
    if ((this.#keys.get(name) ?? keys) !== keys)
      throw new DstackError('STORE_NAME', `${name} is a store of ${this.#keys.get(name)} already`);
    this.#keys.set(name, keys);
    const backing = this.#backing;
    const prefix = `${name}/`;
    const parsed = (key: string, text: string, code: string) =>
      parseJson(schema, text, code, `the stored ${key}`, VALUE_MAX_BYTES);
    return {
      async get(key) {
        const at = prefix + encode(key);
        const text = await backing.get(at);
        return text === undefined ? undefined : parsed(at, text, 'STORE_CORRUPT');
      },
      async set(key, value) {
        const at = prefix + encode(key);
        const text = textOf(at, value);
        parsed(at, text, 'STORE_VALUE');
        await backing.put(at, text);
      },
      async delete(key) {
        await backing.delete(prefix + encode(key));
      },
      async entries({ after, limit = 100 } = {}) {
        if (!Number.isInteger(limit) || limit < 1 || limit > ENTRIES_MAX)
          throw new DstackError('STORE_LIMIT', `${limit} is no number of entries: 1 to ${ENTRIES_MAX} are`);
        const from = after === undefined ? {} : { after: prefix + encode(after) };
        const rows = await backing.list(prefix, { limit, ...from });
        return rows.map(({ key, value }) => ({
          key: decode(key.slice(prefix.length)),
          value: parsed(key, value, 'STORE_CORRUPT'),
        }));
      },
    };
  }
}

/** @throws STORE_VALUE for what JSON has not: a bigint, what contains itself */
function textOf(at: string, value: unknown): string {
  try {
    return JSON.stringify(value) ?? '';
  } catch (cause) {
    throw new DstackError('STORE_VALUE', `what is to be stored as ${at} is no JSON: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Gone when the process ends. */
export const memoryBacking = (): Backing => fileBacking(':memory:');

/**
 * A file, which one process has at a time; a call that has resolved survives power loss. In a VM on a path of the app's volume, whose
 * disk is encrypted.
 * @throws STORE_OPEN
 */
export function fileBacking(path: string): Backing {
  const store = openStore(path);
  return {
    get: async (key) => store.get(key),
    put: async (key, value) => store.put(key, value),
    delete: async (key) => store.delete(key),
    list: async (prefix, options) => store.list(prefix, options),
    close: async () => store.close(),
  };
}
