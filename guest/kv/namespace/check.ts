/**
 * What etcd's own door checks of a request before anything is done, in its words, and the bounds that hold before a prefix makes a
 * request longer. Values of enumerations that are not defined are refused: etcd 3.5.16 ends on some of them.
 */
import { type DescMessage, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import {
  type Compare,
  Compare_CompareResult,
  Compare_CompareTarget,
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  type RequestOp,
  type TxnRequest,
} from '../../../lib/etcd/gen/kv_pb.js';

/** Of etcd's `--max-txn-ops`: comparisons, operations on success or on failure of one level, with those of the levels around it. */
export const MAX_OPERATIONS = 128;
/** Of all levels together: what one level alone may have. */
export const MAX_ENTRIES = 3 * MAX_OPERATIONS;
/** Levels of transactions in transactions. */
export const MAX_DEPTH = 16;
/** Of etcd's `--max-request-bytes`. */
export const MAX_REQUEST_BYTES = 1.5 * 1024 * 1024;
/** What etcd writes into its log around a request. */
const AROUND = 24;

/** @throws RpcError "request is too large" */
export function checkSize<D extends DescMessage>(schema: D, request: MessageShape<D>, payload: number): void {
  // Keys and values are nearly all of it: only of what is near the bound is the exact size needed.
  if (payload < MAX_REQUEST_BYTES / 2) return;
  if (payload > MAX_REQUEST_BYTES || toBinary(schema, request).length + AROUND > MAX_REQUEST_BYTES)
    throw etcdError('requestTooLarge');
}

export function checkRange({ key, sortOrder, sortTarget }: RangeRequest): void {
  if (key.length === 0) throw etcdError('emptyKey');
  if (RangeRequest_SortOrder[sortOrder] === undefined || RangeRequest_SortTarget[sortTarget] === undefined)
    throw etcdError('invalidSortOption');
}

export function checkPut(request: PutRequest): void {
  if (request.key.length === 0) throw etcdError('emptyKey');
  if (request.ignoreValue && request.value.length !== 0) throw etcdError('valueProvided');
  if (request.ignoreLease && request.lease !== 0n) throw etcdError('leaseProvided');
}

export function checkDeleteRange(request: DeleteRangeRequest): void {
  if (request.key.length === 0) throw etcdError('emptyKey');
}

export function checkTxn(request: TxnRequest): void {
  checkLevel(request, MAX_OPERATIONS, { depth: 0, entries: 0 });
}

interface Spent {
  depth: number;
  entries: number;
}

function checkLevel({ compare, success, failure }: TxnRequest, allowed: number, spent: Spent): void {
  const largest = Math.max(compare.length, success.length, failure.length);
  spent.entries += compare.length + success.length + failure.length;
  if (largest > allowed || spent.entries > MAX_ENTRIES || spent.depth >= MAX_DEPTH)
    throw etcdError('tooManyOps');
  for (const one of compare) checkCompare(one);
  spent.depth += 1;
  for (const operation of [...success, ...failure]) checkOperation(operation, allowed - largest, spent);
  spent.depth -= 1;
}

function checkOperation({ request }: RequestOp, allowed: number, spent: Spent): void {
  if (request.case === 'requestRange') checkRange(request.value);
  else if (request.case === 'requestPut') checkPut(request.value);
  else if (request.case === 'requestDeleteRange') checkDeleteRange(request.value);
  else if (request.case === 'requestTxn') checkLevel(request.value, allowed, spent);
  else throw etcdError('keyNotFound');
}

function checkCompare({ key, result, target, targetUnion }: Compare): void {
  if (key.length === 0) throw etcdError('emptyKey');
  if (Compare_CompareResult[result] === undefined || Compare_CompareTarget[target] === undefined)
    throw new RpcError(
      status.invalidArgument,
      'etcdserver: a comparison has a target or a result that is not defined',
    );
  if (target !== Compare_CompareTarget.LEASE || isEquality(result)) return;
  // A namespace's ids are in another order than etcd's. Against none, the only order that means something, it is an equality.
  if (targetUnion.case === 'lease' && targetUnion.value !== 0n)
    throw new RpcError(status.invalidArgument, 'etcdserver: ids of leases are compared for equality only');
}

function isEquality(result: Compare_CompareResult): boolean {
  return result === Compare_CompareResult.EQUAL || result === Compare_CompareResult.NOT_EQUAL;
}

/** Bytes of keys and values, without what encodes them. */
export function payloadOf({ compare, success, failure }: TxnRequest): number {
  let bytes = 0;
  for (const { key, rangeEnd, targetUnion } of compare)
    bytes += key.length + rangeEnd.length + (targetUnion.case === 'value' ? targetUnion.value.length : 0);
  for (const { request } of [...success, ...failure]) {
    if (request.case === 'requestTxn') bytes += payloadOf(request.value);
    else if (request.case === 'requestPut') bytes += request.value.key.length + request.value.value.length;
    else if (request.case !== undefined) bytes += request.value.key.length + request.value.rangeEnd.length;
  }
  return bytes;
}
