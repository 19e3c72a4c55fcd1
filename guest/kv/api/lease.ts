/** etcd's Lease service. */
import { etcdError } from '../../../lib/etcd/errors.ts';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import { KeepAlives } from '../namespace/keep-alives.ts';
import type { Store } from '../namespace/store.ts';
import type { ServedMethod } from '../types.ts';
import { streaming, unary } from './method.ts';
import { relayed } from './relay.ts';

export function leaseMethods(store: Store): ServedMethod[] {
  const { method } = Lease;
  return [
    unary(method.leaseGrant, (request, call) => store.leaseGrant(call, request)),
    unary(method.leaseRevoke, (request, call) => store.leaseRevoke(call, request)),
    unary(method.leaseTimeToLive, (request, call) => store.leaseTimeToLive(call, request)),
    unary(method.leaseLeases, (_, call) => store.leaseLeases(call)),
    streaming(method.leaseKeepAlive, async (requests, send, call) => {
      const space = store.spaceOf(call.caller);
      if (!store.streams.take(space)) throw etcdError('tooManyRequests');
      try {
        const upstream = store.upstream.stream(method.leaseKeepAlive, { signal: call.signal });
        const leases = new KeepAlives(store, call);
        await relayed(
          upstream,
          async () => {
            for await (const request of requests) upstream.send(await leases.request(request));
          },
          (reply) => send(leases.reply(reply)),
        );
      } finally {
        store.streams.release(space);
      }
    }),
  ];
}
