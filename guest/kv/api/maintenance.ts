/**
 * etcd's Maintenance service, for the owner alone: it shows and touches what all namespaces share. Others get the status of a store that
 * works, which clients ask for to find an endpoint, with the size of what is theirs, without what it tells of the others' data.
 */
import type { DescMessage, DescMethodUnary } from '@bufbuild/protobuf';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { AlarmRequest_AlarmAction, AlarmType, Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { headerOf } from '../namespace/replies.ts';
import type { Store } from '../namespace/store.ts';
import type { Call, ServedMethod, UnaryHandler } from '../types.ts';
import { streaming, unary } from './method.ts';

export function maintenanceMethods(store: Store): ServedMethod[] {
  const { method } = Maintenance;
  const { upstream } = store;
  /** The owner, and of the owner's users only root. */
  const requireOwner = async (call: Call): Promise<void> => {
    if (!call.caller.owner) throw etcdError('permissionDenied');
    await store.requireRoot(call);
  };
  const ownersOnly = <I extends DescMessage, O extends DescMessage>(
    served: DescMethodUnary<I, O>,
    handle: UnaryHandler<I, O>,
  ): ServedMethod =>
    unary(served, async (request, call) => {
      await requireOwner(call);
      return handle(request, call);
    });
  return [
    unary(method.status, async (_, call) => {
      await store.requireUser(call);
      const found = await upstream.unary(method.status, {}, call);
      const { leader, raftTerm, raftIndex, raftAppliedIndex, version, isLearner } = found;
      const all = { leader, raftTerm, raftIndex, raftAppliedIndex, version, isLearner };
      if (!call.caller.owner) {
        const used = BigInt(store.usage.usedBy(store.spaceOf(call.caller)));
        return { ...headerOf(found), ...all, dbSize: used, dbSizeInUse: used };
      }
      const { dbSize, dbSizeInUse, errors } = found;
      return { ...headerOf(found), ...all, dbSize, dbSizeInUse, errors };
    }),
    ownersOnly(method.alarm, async ({ action, memberID, alarm }, call) => {
      const known = AlarmType[alarm] !== undefined && AlarmRequest_AlarmAction[action] !== undefined;
      if (!known) throw etcdError('notCapable');
      const found = await upstream.unary(method.alarm, { action, memberID, alarm }, call);
      return {
        ...headerOf(found),
        alarms: found.alarms.map((one) => ({ memberID: one.memberID, alarm: one.alarm })),
      };
    }),
    ownersOnly(method.defragment, async (_, call) =>
      headerOf(await upstream.unary(method.defragment, {}, call)),
    ),
    ownersOnly(method.hash, async (_, call) => {
      const found = await upstream.unary(method.hash, {}, call);
      return { ...headerOf(found), hash: found.hash };
    }),
    ownersOnly(method.hashKV, async ({ revision }, call) => {
      const found = await upstream.unary(method.hashKV, { revision }, call);
      return { ...headerOf(found), hash: found.hash, compactRevision: found.compactRevision };
    }),
    streaming(method.snapshot, async (requests, send, call) => {
      await requireOwner(call);
      for await (const _ of requests) break;
      const parts = upstream.stream(method.snapshot, { signal: call.signal });
      parts.send({});
      parts.end();
      for await (const { header, remainingBytes, blob } of parts)
        await send({ ...headerOf({ header }), remainingBytes, blob });
    }),
  ];
}
