/** etcd's KV service. */
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import type { Store } from '../namespace/store.ts';
import type { ServedMethod } from '../types.ts';
import { unary } from './method.ts';

export function kvMethods(store: Store): ServedMethod[] {
  return [
    unary(KV.method.range, (request, call) => store.range(call, request)),
    unary(KV.method.put, (request, call) => store.put(call, request)),
    unary(KV.method.deleteRange, (request, call) => store.deleteRange(call, request)),
    unary(KV.method.txn, (request, call) => store.txn(call, request)),
    unary(KV.method.compact, (request, call) => store.compact(call, request)),
  ];
}
