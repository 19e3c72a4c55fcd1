/** An app's namespace in the network's store as the place of its typed stores. Every node sees the same. */
import { EtcdClient } from '../../etcd/client.ts';
import { RpcError, status } from '../../etcd/errors.ts';
import { KV } from '../../etcd/gen/kv_pb.js';
import { messageOf, Retryable } from '../../protocol/errors.ts';
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

  const isTooLarge = (error: unknown): boolean =>
    error instanceof RpcError && error.status === status.resourceExhausted;

  async function asked<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (cause) {
      throw new Retryable('STORE_AWAY', `the store did not take a call: ${messageOf(cause)}`, {
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
      const rangeEnd = bytes(`${from}\x7f`);
      const rows: { key: string; value: string }[] = [];
      let last = after;
      let page = limit;
      while (rows.length < limit) {
        const count = Math.min(page, limit - rows.length);
        const key = last === undefined ? bytes(from) : bytes(`${last}\0`);
        const call = client.call(KV.method.range, { key, rangeEnd, limit: BigInt(count) });
        const kvs = await call.then(
          (answer) => answer.kvs,
          (error) => (count > 1 && isTooLarge(error) ? undefined : asked(Promise.reject(error))),
        );
        // Large values: fewer of them fit into an answer.
        if (kvs === undefined) page = Math.floor(count / 2);
        else {
          rows.push(
            ...kvs.map((one) => ({ key: text(one.key).slice(prefix.length), value: text(one.value) })),
          );
          if (kvs.length < count) break;
          last = rows.at(-1)!.key;
        }
      }
      return rows;
    },
    async close() {
      client.close();
    },
  };
}
