/** etcd's Lock service: the holder of a name is who has waited longest, for as long as its lease lives. */
import { create } from '@bufbuild/protobuf';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { RangeRequestSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { Lock, type LockRequest } from '../../../lib/etcd/gen/lock_pb.js';
import type { Store } from '../namespace/store.ts';
import type { Call, ServedMethod } from '../types.ts';
import { unary } from './method.ts';
import { deleteKey, enqueue, leaseFor, prefixOf, tidying, waiterKey, waitForTurn } from './queue.ts';

const NOTHING = new Uint8Array();

export function lockMethods(store: Store): ServedMethod[] {
  return [
    unary(Lock.method.lock, (request, call) => lock(store, request, call)),
    unary(Lock.method.unlock, async ({ key }, call) => ({
      header: (await deleteKey(store, call, key)).header,
    })),
  ];
}

async function lock(store: Store, request: LockRequest, call: Call) {
  const lease = await leaseFor(store, call, request.lease);
  const key = waiterKey(request.name, lease);
  const { revision } = await enqueue(store, call, { key, value: NOTHING, lease });
  try {
    await waitForTurn(store, call, prefixOf(request.name), revision);
  } catch (error) {
    // Nobody may wait behind one who has gone.
    await deleteKey(store, tidying(call), key).catch(() => {});
    throw error;
  }
  const held = await store.range(call, create(RangeRequestSchema, { key }));
  if (held.kvs?.length === 0) throw new RpcError(status.unknown, 'mutex: session is expired');
  return { header: held.header, key };
}
