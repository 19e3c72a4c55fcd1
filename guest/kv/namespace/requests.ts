/**
 * A client's checked request as one of etcd's: made anew from the fields that are known, with the namespace's prefix before every key,
 * leases by etcd's ids, and reads below the namespace's floor refused as etcd refuses what is compacted.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  type Compare,
  Compare_CompareResult,
  Compare_CompareTarget,
  type CompareSchema,
  type DeleteRangeRequest,
  type DeleteRangeRequestSchema,
  type PutRequest,
  type PutRequestSchema,
  type RangeRequest,
  type RangeRequestSchema,
  type RequestOp,
  type RequestOpSchema,
  type TxnRequest,
  type TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import type { Keyspace } from './keyspace.ts';
import { type LeaseIds, NEVER } from './lease-ids.ts';

/** What a request is seen in. */
export interface Scope {
  readonly space: Keyspace;
  readonly leases: LeaseIds;
  /** The namespace's own compaction: what is below is gone. */
  readonly floor: bigint;
  /** Of the leases that a request names, by the client's ids, those that the namespace has. */
  readonly owned: ReadonlySet<bigint>;
}

/** A revision that etcd has always compacted: a transaction that reads there fails if, and only if, it comes to that read. */
export const COMPACTED = -(2n ** 63n);

/** @throws RpcError below the floor */
export function rangeUpstream(
  scope: Scope,
  request: RangeRequest,
): MessageInitShape<typeof RangeRequestSchema> {
  if (request.revision > 0n && request.revision < scope.floor) throw etcdError('compacted');
  // With users it goes out within a transaction, where etcd takes a revision below 0 for one that is compacted; by itself it means now.
  return { ...rangeFields(scope, request), revision: request.revision > 0n ? request.revision : 0n };
}

function rangeFields({ space }: Scope, request: RangeRequest) {
  return {
    ...space.range(request),
    limit: request.limit,
    revision: request.revision,
    sortOrder: request.sortOrder,
    sortTarget: request.sortTarget,
    serializable: request.serializable,
    keysOnly: request.keysOnly,
    countOnly: request.countOnly,
    minModRevision: request.minModRevision,
    maxModRevision: request.maxModRevision,
    minCreateRevision: request.minCreateRevision,
    maxCreateRevision: request.maxCreateRevision,
  };
}

export function putUpstream(scope: Scope, request: PutRequest): MessageInitShape<typeof PutRequestSchema> {
  return {
    key: scope.space.key(request.key),
    value: request.value,
    lease: attached(scope, request.lease),
    prevKv: request.prevKv,
    ignoreValue: request.ignoreValue,
    ignoreLease: request.ignoreLease,
  };
}

/** A lease that is not the namespace's is one that never was. */
function attached({ leases, owned }: Scope, lease: bigint): bigint {
  if (lease === 0n) return lease;
  return owned.has(lease) ? leases.upstream(lease) : NEVER;
}

export function deleteUpstream(
  { space }: Scope,
  request: DeleteRangeRequest,
): MessageInitShape<typeof DeleteRangeRequestSchema> {
  return { ...space.range(request), prevKv: request.prevKv };
}

export function txnUpstream(
  scope: Scope,
  { compare, success, failure }: TxnRequest,
): MessageInitShape<typeof TxnRequestSchema> {
  return {
    compare: compare.map((one) => compareUpstream(scope, one)),
    success: success.map((one) => operationUpstream(scope, one)),
    failure: failure.map((one) => operationUpstream(scope, one)),
  };
}

function operationUpstream(scope: Scope, { request }: RequestOp): MessageInitShape<typeof RequestOpSchema> {
  switch (request.case) {
    case 'requestRange':
      return { request: { case: request.case, value: rangeInTxn(scope, request.value) } };
    case 'requestPut':
      return { request: { case: request.case, value: putUpstream(scope, request.value) } };
    case 'requestDeleteRange':
      return { request: { case: request.case, value: deleteUpstream(scope, request.value) } };
    case 'requestTxn':
      return { request: { case: request.case, value: txnUpstream(scope, request.value) } };
    default:
      throw etcdError('keyNotFound');
  }
}

function rangeInTxn(scope: Scope, request: RangeRequest): MessageInitShape<typeof RangeRequestSchema> {
  const gone = request.revision !== 0n && request.revision < scope.floor;
  return { ...rangeFields(scope, request), revision: gone ? COMPACTED : request.revision };
}

function compareUpstream(scope: Scope, compare: Compare): MessageInitShape<typeof CompareSchema> {
  return {
    ...scope.space.range(compare),
    target: compare.target,
    ...comparison(scope, compare),
  };
}

/** What is compared with what. A value that does not fit the target counts as none, as it does for etcd. */
function comparison(
  { leases }: Scope,
  { result, target, targetUnion }: Compare,
): Pick<MessageInitShape<typeof CompareSchema>, 'result' | 'targetUnion'> {
  switch (target) {
    case Compare_CompareTarget.VERSION:
      return { result, targetUnion: { case: 'version', value: number('version', targetUnion) } };
    case Compare_CompareTarget.CREATE:
      return {
        result,
        targetUnion: { case: 'createRevision', value: number('createRevision', targetUnion) },
      };
    case Compare_CompareTarget.MOD:
      return { result, targetUnion: { case: 'modRevision', value: number('modRevision', targetUnion) } };
    case Compare_CompareTarget.VALUE: {
      const value = targetUnion.case === 'value' ? targetUnion.value : new Uint8Array();
      return { result, targetUnion: { case: 'value', value } };
    }
    case Compare_CompareTarget.LEASE:
      return leaseComparison(leases, result, number('lease', targetUnion));
  }
}

type Union = Compare['targetUnion'];
type NumberCase = 'version' | 'createRevision' | 'modRevision' | 'lease';

function number(wanted: NumberCase, union: Union): bigint {
  return union.case === wanted ? union.value : 0n;
}

/** A client's ids are positive, etcd's of the same leases are not: more than none is any, less than none is never. */
function leaseComparison(leases: LeaseIds, result: Compare_CompareResult, lease: bigint) {
  const equal = (value: bigint, to = Compare_CompareResult.EQUAL) =>
    ({ result: to, targetUnion: { case: 'lease', value } }) as const;
  if (result === Compare_CompareResult.GREATER) return equal(0n, Compare_CompareResult.NOT_EQUAL);
  if (result === Compare_CompareResult.LESS) return equal(NEVER);
  return equal(leases.upstream(lease), result);
}

/** The leases that a transaction's puts would attach to, by the client's ids. */
export function leasesOf({ success, failure }: TxnRequest, found = new Set<bigint>()): Set<bigint> {
  for (const { request } of [...success, ...failure]) {
    if (request.case === 'requestPut' && request.value.lease !== 0n) found.add(request.value.lease);
    else if (request.case === 'requestTxn') leasesOf(request.value, found);
  }
  return found;
}
