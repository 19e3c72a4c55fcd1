/**
 * etcd's Cluster service, of which nobody may change anything here: who is a member is the network's affair. A namespace sees one member,
 * whose address is the one that it asks at: clients that look for others find none.
 */
import { Cluster } from '../../../lib/etcd/gen/cluster_pb.js';
import { headerOf } from '../namespace/replies.ts';
import type { Store } from '../namespace/store.ts';
import type { ServedMethod } from '../types.ts';
import { unary } from './method.ts';

/** @param urls where clients reach the store, as they are told */
export function clusterMethods(store: Store, urls: () => readonly string[]): ServedMethod[] {
  return [
    unary(Cluster.method.memberList, async ({ linearizable }, call) => {
      await store.requireUser(call);
      const { header, members } = await store.upstream.unary(
        Cluster.method.memberList,
        { linearizable },
        call,
      );
      return {
        ...headerOf({ header }),
        members: members.map(({ ID, name, isLearner }) => ({ ID, name, isLearner, clientURLs: [...urls()] })),
      };
    }),
  ];
}
