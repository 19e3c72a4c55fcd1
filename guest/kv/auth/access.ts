/**
 * Which keys a request reads and writes, through every level of a transaction. etcd 3.5.16 looks at the first level only, and there not
 * at a put's previous value or its lease.
 */
import type {
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  TxnRequest,
} from '../../../lib/etcd/gen/kv_pb.js';
import type { KeyRange } from '../namespace/keyspace.ts';

export interface Access extends KeyRange {
  readonly kind: 'read' | 'write';
}

const ALONE = new Uint8Array();

export function accessOfRange({ key, rangeEnd }: RangeRequest): Access[] {
  return [{ kind: 'read', key, rangeEnd }];
}

export function accessOfPut({ key, prevKv }: PutRequest): Access[] {
  const write: Access = { kind: 'write', key, rangeEnd: ALONE };
  return prevKv ? [write, { ...write, kind: 'read' }] : [write];
}

export function accessOfDelete({ key, rangeEnd, prevKv }: DeleteRangeRequest): Access[] {
  const write: Access = { kind: 'write', key, rangeEnd };
  return prevKv ? [write, { ...write, kind: 'read' }] : [write];
}

export function accessOfTxn({ compare, success, failure }: TxnRequest): Access[] {
  const compared = compare.map(({ key, rangeEnd }): Access => ({ kind: 'read', key, rangeEnd }));
  return [...compared, ...[...success, ...failure].flatMap(({ request }) => accessOf(request))];
}

function accessOf(request: TxnRequest['success'][number]['request']): Access[] {
  switch (request.case) {
    case 'requestRange':
      return accessOfRange(request.value);
    case 'requestPut':
      return accessOfPut(request.value);
    case 'requestDeleteRange':
      return accessOfDelete(request.value);
    case 'requestTxn':
      return accessOfTxn(request.value);
    default:
      return [];
  }
}
