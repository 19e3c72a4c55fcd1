/**
 * What locks and elections have in common, as etcd's clients and its own services do it: whoever waits has a key `<name>/<lease>` that
 * goes with its lease, and is first when no key of an earlier revision is left.
 */

import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  Compare_CompareTarget,
  type CompareSchema,
  DeleteRangeRequestSchema,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  RangeRequestSchema,
  type RequestOpSchema,
  TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { LeaseGrantRequestSchema } from '../../../lib/etcd/gen/lease_pb.js';
import { Event_EventType } from '../../../lib/etcd/gen/mvcc_pb.js';
import { WatchCreateRequestSchema } from '../../../lib/etcd/gen/watch_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { keepAlive } from '../namespace/keep-alives.ts';
import { joined, ZERO } from '../namespace/keyspace.ts';
import type { Store } from '../namespace/store.ts';
import { watching } from '../namespace/watch-session.ts';
import type { Call } from '../types.ts';

/** Seconds, of a lease that is granted for a caller who names none. */
const LEASE_TTL = 60n;
/** Milliseconds that tidying up after a caller who went away may take. */
const TIDYING = 5_000;

type Init = MessageInitShape<typeof RequestOpSchema>;

/** The keys of a name are those that begin with it and a slash. */
export function prefixOf(name: Uint8Array): Uint8Array {
  return joined(name, utf8('/'));
}

/** The end of the range of keys that begin with this, as etcd's clients make it. */
function endOf(prefix: Uint8Array): Uint8Array {
  const last = prefix.findLastIndex((byte) => byte < 0xff);
  if (last === -1) return ZERO;
  const end = Uint8Array.from(prefix.subarray(0, last + 1));
  end[last]! += 1;
  return end;
}

/** As Go prints a number in hex, with a sign. */
export function waiterKey(name: Uint8Array, lease: bigint): Uint8Array {
  return joined(prefixOf(name), utf8(lease.toString(16)));
}

/** The lease that a caller goes on with: its own, kept alive once, or a new one. */
export async function leaseFor(store: Store, call: Call, lease: bigint): Promise<bigint> {
  if (lease !== 0n) {
    await keepAlive(store, call, lease);
    return lease;
  }
  const { ID } = await store.leaseGrant(call, create(LeaseGrantRequestSchema, { TTL: LEASE_TTL }));
  return ID ?? 0n;
}

/** That the key was made at this revision; at 0, that there is none. */
export function madeAt(key: Uint8Array, revision: bigint): MessageInitShape<typeof CompareSchema> {
  return {
    key,
    target: Compare_CompareTarget.CREATE,
    targetUnion: { case: 'createRevision', value: revision },
  };
}

export const get = (key: Uint8Array): Init => ({ request: { case: 'requestRange', value: { key } } });

export const put = (key: Uint8Array, value: Uint8Array, lease: bigint): Init => ({
  request: { case: 'requestPut', value: { key, value, lease } },
});

export const remove = (key: Uint8Array): Init => ({
  request: { case: 'requestDeleteRange', value: { key } },
});

/** The first who came, of all that begin with this. */
export const firstOf = (prefix: Uint8Array) =>
  ({
    key: prefix,
    rangeEnd: endOf(prefix),
    limit: 1n,
    sortOrder: RangeRequest_SortOrder.ASCEND,
    sortTarget: RangeRequest_SortTarget.CREATE,
  }) as const;

export function txn(store: Store, call: Call, request: MessageInitShape<typeof TxnRequestSchema>) {
  return store.txn(call, create(TxnRequestSchema, request));
}

export async function first(store: Store, call: Call, prefix: Uint8Array) {
  return store.range(call, create(RangeRequestSchema, firstOf(prefix)));
}

/** Takes a place in the queue, or finds the one that the lease has. */
export async function enqueue(
  store: Store,
  call: Call,
  { key, value, lease }: { key: Uint8Array; value: Uint8Array; lease: bigint },
) {
  const reply = await txn(store, call, {
    compare: [madeAt(key, 0n)],
    success: [put(key, value, lease)],
    failure: [get(key)],
  });
  const header = reply.header;
  if (reply.succeeded) return { header, revision: header?.revision ?? 0n, value };
  const found = reply.responses?.[0]?.response;
  const kv = found?.case === 'responseRange' ? found.value.kvs?.[0] : undefined;
  if (kv === undefined) throw etcdError('corrupt');
  return { header, revision: kv.createRevision ?? 0n, value: kv.value ?? new Uint8Array() };
}

/** Waits until no key of the prefix is older than this revision. The last of them is waited for, then looked again. */
export async function waitForTurn(
  store: Store,
  call: Call,
  prefix: Uint8Array,
  revision: bigint,
): Promise<void> {
  for (;;) {
    const { header, kvs } = await store.range(
      call,
      create(RangeRequestSchema, {
        ...firstOf(prefix),
        sortOrder: RangeRequest_SortOrder.DESCEND,
        maxCreateRevision: revision - 1n,
      }),
    );
    const last = kvs?.[0]?.key;
    if (last === undefined) return;
    await deleted(store, call, last, header?.revision ?? 0n);
  }
}

async function deleted(store: Store, call: Call, key: Uint8Array, startRevision: bigint): Promise<void> {
  const request = create(WatchCreateRequestSchema, { key, startRevision });
  for await (const { events } of watching(store, call, request))
    if (events?.some(({ type }) => type === Event_EventType.DELETE)) return;
  throw etcdError('connectionLost');
}

export async function deleteKey(store: Store, call: Call, key: Uint8Array) {
  return store.deleteRange(call, create(DeleteRangeRequestSchema, { key }));
}

/** The same call, for what has to be done though its client went away. */
export function tidying({ caller, token }: Call): Call {
  return { caller, token, signal: AbortSignal.timeout(TIDYING), deadline: performance.now() + TIDYING };
}
