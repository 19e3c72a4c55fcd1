/** A store over a real etcd, for tests, and calls of it by several namespaces. */

import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { RpcError } from '../../../lib/etcd/errors.ts';
import {
  CompactionRequestSchema,
  DeleteRangeRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import {
  LeaseGrantRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
} from '../../../lib/etcd/gen/lease_pb.js';
import { bytesOf, startEtcd, textOf } from '../../../test/support/etcd.ts';
import { Passwords } from '../auth/passwords.ts';
import { EtcdClient } from '../engine/client.ts';
import type { Call } from '../types.ts';
import { Store, type StoreOptions } from './store.ts';

export interface By {
  readonly token?: string | undefined;
  readonly commonName?: string;
  readonly signal?: AbortSignal;
}

export function callOf(
  prefix: string,
  { token, commonName, signal = new AbortController().signal }: By = {},
): Call {
  return {
    caller: {
      prefix: bytesOf(prefix),
      name: prefix,
      owner: false,
      ...(commonName !== undefined && { commonName }),
    },
    token,
    signal,
    deadline: undefined,
  };
}

/** The messages of a store by one caller, with text for bytes. */
export function clientOf(store: Store, call: Call) {
  const b = bytesOf;
  type Fields<S extends Parameters<typeof create>[0]> = Omit<
    MessageInitShape<S>,
    'key' | 'rangeEnd' | '$typeName'
  >;
  return {
    call,
    put: (key: string, value = 'v', more: Fields<typeof PutRequestSchema> = {}) =>
      store.put(call, create(PutRequestSchema, { value: b(value), ...more, key: b(key) })),
    range: (key: string, rangeEnd = '', more: Fields<typeof RangeRequestSchema> = {}) =>
      store.range(call, create(RangeRequestSchema, { ...more, key: b(key), rangeEnd: b(rangeEnd) })),
    remove: (key: string, rangeEnd = '', more: Fields<typeof DeleteRangeRequestSchema> = {}) =>
      store.deleteRange(
        call,
        create(DeleteRangeRequestSchema, { ...more, key: b(key), rangeEnd: b(rangeEnd) }),
      ),
    txn: (request: MessageInitShape<typeof TxnRequestSchema>) =>
      store.txn(call, create(TxnRequestSchema, request)),
    compact: (revision: bigint, physical = true) =>
      store.compact(call, create(CompactionRequestSchema, { revision, physical })),
    grant: (ID = 0n, TTL = 60n) => store.leaseGrant(call, create(LeaseGrantRequestSchema, { ID, TTL })),
    revoke: (ID: bigint) => store.leaseRevoke(call, create(LeaseRevokeRequestSchema, { ID })),
    timeToLive: (ID: bigint, keys = true) =>
      store.leaseTimeToLive(call, create(LeaseTimeToLiveRequestSchema, { ID, keys })),
    leases: async () => (await store.leaseLeases(call)).leases?.map(({ ID }) => ID ?? 0n) ?? [],
    /** The keys there are, and all of them. */
    keys: async () =>
      (await store.range(call, create(RangeRequestSchema, { key: b('\0'), rangeEnd: b('\0') }))).kvs?.map(
        ({ key }) => textOf(key!),
      ) ?? [],
  };
}

export type Client = ReturnType<typeof clientOf>;

/** What a call was refused with; `accepted` if it was not. */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return error.message;
    throw error;
  }
  return 'accepted';
}

export async function startStore() {
  const etcd = await startEtcd();
  const upstream = new EtcdClient(etcd.socket);
  let durable = 2n ** 62n;
  const open = (more: Partial<StoreOptions> = {}) =>
    Store.open(upstream, { durable: () => durable, passwords: new Passwords(4), ...more });
  return {
    etcd,
    upstream,
    store: await open(),
    /** Another one over the same etcd: what a restart finds. */
    reopened: open,
    setDurable(revision: bigint): void {
      durable = revision;
    },
    async stop(): Promise<void> {
      upstream.close();
      await etcd.stop();
    },
  };
}
