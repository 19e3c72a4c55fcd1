/** An app's namespace in the network's store as the place of its typed stores. Every node sees the same. */
import { EtcdClient } from '../../etcd/client.ts';
import { KV } from '../../etcd/gen/kv_pb.js';
import { Retryable } from '../../protocol/errors.ts';
import type { Backing } from './typed-store.ts';

/** Where the store is, and what it is to be shown. */
export interface EtcdPlace {
  /** `unix:///path`, `http://host:port` or `https://host:port`. */
  readonly endpoints: readonly string[];
  /** PEM. */
  readonly tls?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
}

/** @param prefix before every key. @throws ETCD_ENDPOINT */
export function etcdBacking(access: EtcdPlace, prefix = 'dstack/'): Backing {
  const client = new EtcdClient(access);
  const bytes = (key: string) => new TextEncoder().encode(prefix + key);
  const text = (value: Uint8Array) => new TextDecoder().decode(value);

  async function asked<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (cause) {
      throw new Retryable('STORE_AWAY', `the store did not take a call: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  return {
    async get(key) {
      const { kvs } = await asked(client.call(KV.method.range, { key: bytes(key) }));
      return kvs[0] === undefined ? undefined : text(kvs[0].value);
    },
    async put(key, value) {
      await asked(client.call(KV.method.put, { key: bytes(key), value: new TextEncoder().encode(value) }));
    },
    async delete(key) {
      await asked(client.call(KV.method.deleteRange, { key: bytes(key) }));
    },
    async list(from, { after, limit }) {
      // A range begins at its key; the first key after another is that key and a zero byte.
      const key = after === undefined ? bytes(from) : bytes(`${after}\0`);
      const rangeEnd = bytes(`${from}\x7f`);
      const { kvs } = await asked(client.call(KV.method.range, { key, rangeEnd, limit: BigInt(limit) }));
      return kvs.map((one) => ({ key: text(one.key).slice(prefix.length), value: text(one.value) }));
    },
    async close() {
      client.close();
    },
  };
}
