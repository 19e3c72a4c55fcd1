/** Etcd's replies as the namespace sees them: keys without the prefix, leases by the client's ids. A key of elsewhere is an error. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  DeleteRangeResponse,
  DeleteRangeResponseSchema,
  PutResponse,
  PutResponseSchema,
  RangeResponse,
  RangeResponseSchema,
  ResponseOp,
  ResponseOpSchema,
  TxnResponse,
  TxnResponseSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import type { KeyValue, KeyValueSchema } from '../../../lib/etcd/gen/mvcc_pb.js';
import type { Keyspace } from './keyspace.ts';
import type { LeaseIds } from './lease-ids.ts';

export interface View {
  readonly space: Keyspace;
  readonly leases: LeaseIds;
}

/** @throws KV_FOREIGN_KEY */
export function keyValueOf({ space, leases }: View, kv: KeyValue): MessageInitShape<typeof KeyValueSchema> {
  return {
    key: space.strip(kv.key),
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    version: kv.version,
    value: kv.value,
    lease: leases.client(kv.lease),
  };
}

function keyValues(view: View, kvs: readonly KeyValue[]) {
  return kvs.map((kv) => keyValueOf(view, kv));
}

export function rangeReply(view: View, reply: RangeResponse): MessageInitShape<typeof RangeResponseSchema> {
  return { ...headerOf(reply), kvs: keyValues(view, reply.kvs), more: reply.more, count: reply.count };
}

export function putReply(view: View, reply: PutResponse): MessageInitShape<typeof PutResponseSchema> {
  return { ...headerOf(reply), ...(reply.prevKv && { prevKv: keyValueOf(view, reply.prevKv) }) };
}

export function deleteReply(
  view: View,
  reply: DeleteRangeResponse,
): MessageInitShape<typeof DeleteRangeResponseSchema> {
  return { ...headerOf(reply), deleted: reply.deleted, prevKvs: keyValues(view, reply.prevKvs) };
}

export function txnReply(view: View, reply: TxnResponse): MessageInitShape<typeof TxnResponseSchema> {
  return {
    ...headerOf(reply),
    succeeded: reply.succeeded,
    responses: reply.responses.map((one) => operationReply(view, one)),
  };
}

function operationReply(view: View, { response }: ResponseOp): MessageInitShape<typeof ResponseOpSchema> {
  switch (response.case) {
    case 'responseRange':
      return { response: { case: response.case, value: rangeReply(view, response.value) } };
    case 'responsePut':
      return { response: { case: response.case, value: putReply(view, response.value) } };
    case 'responseDeleteRange':
      return { response: { case: response.case, value: deleteReply(view, response.value) } };
    case 'responseTxn':
      return { response: { case: response.case, value: txnReply(view, response.value) } };
    default:
      return {};
  }
}

interface HeaderFields {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: bigint;
  readonly raftTerm: bigint;
}

/** A header's own fields; without one, nothing. What its revision tells of other namespaces is in this folder's README. */
export function headerOf({ header }: { readonly header?: HeaderFields | undefined }): {
  header?: HeaderFields;
} {
  if (header === undefined) return {};
  const { clusterId, memberId, revision, raftTerm } = header;
  return { header: { clusterId, memberId, revision, raftTerm } };
}
