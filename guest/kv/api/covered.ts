/** etcd as the services have it: the answer to a write comes once the ledger covers its revision. Reads pass. */
import type { DescMessage, DescMethod, DescMethodUnary, MessageShape } from '@bufbuild/protobuf';
import type { ResponseHeader } from '../../../lib/etcd/gen/header_pb.js';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import type { Ledger, Upstream } from '../types.ts';

/** What may make a revision. A lease's revocation does, when keys go with it. */
const writing: ReadonlySet<DescMethod> = new Set<DescMethod>([
  KV.method.put,
  KV.method.deleteRange,
  KV.method.txn,
  Lease.method.leaseRevoke,
]);

export function covered(upstream: Upstream, ledger: Pick<Ledger, 'covered'>): Upstream {
  return {
    stream: (method, options) => upstream.stream(method, options),
    unary: async <I extends DescMessage, O extends DescMessage>(
      ...[method, request, options]: Parameters<typeof upstream.unary<I, O>>
    ): Promise<MessageShape<O>> => {
      const answer = await upstream.unary(method as DescMethodUnary<I, O>, request, options);
      if (writing.has(method)) {
        const { header } = answer as { header?: ResponseHeader };
        // A store that has never been written to is at revision 1, which has no leaf.
        if (header !== undefined && header.revision > 1n) await ledger.covered(header.revision);
      }
      return answer;
    },
  };
}
