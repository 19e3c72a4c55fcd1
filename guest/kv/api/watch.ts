/** etcd's Watch service: each stream of a client's is one of etcd's. */
import { Watch } from '../../../lib/etcd/gen/watch_pb.js';
import type { Store } from '../namespace/store.ts';
import { WatchSession } from '../namespace/watch-session.ts';
import type { ServedMethod } from '../types.ts';
import { streaming } from './method.ts';
import { relayed } from './relay.ts';

export function watchMethods(store: Store): ServedMethod[] {
  return [
    streaming(Watch.method.watch, async (requests, send, call) => {
      const upstream = store.upstream.stream(Watch.method.watch, { signal: call.signal });
      const left = Promise.withResolvers<never>();
      const session = await WatchSession.open(store, call, {
        etcd: (request) => upstream.send(request),
        // Not waited for: what a client does not take is this process's, which bounds it. Etcd would keep all that is still to come
        // besides, for each of its streams, and has no bound.
        client: async (answer) => {
          send(answer).catch((error: unknown) => {
            left.reject(error);
            upstream.close();
          });
        },
      });
      try {
        const told = relayed(
          upstream,
          async () => {
            for await (const request of requests) await session.request(request);
          },
          (reply) => session.reply(reply),
        );
        await Promise.race([told, left.promise]);
      } finally {
        session.close();
      }
    }),
  ];
}
