import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  PutRequestSchema,
  RangeRequestSchema,
  type RequestOpSchema,
  TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { checkPut, checkRange, checkSize, checkTxn, MAX_DEPTH, payloadOf } from './check.ts';

type Op = MessageInitShape<typeof RequestOpSchema>;
type Txn = MessageInitShape<typeof TxnRequestSchema>;

const key = utf8('k');
const range: Op = { request: { case: 'requestRange', value: { key } } };
const nested = (value: Txn): Op => ({ request: { case: 'requestTxn', value } });
const txn = (init: Txn) => () => checkTxn(create(TxnRequestSchema, init));
const many = (count: number) => Array.from({ length: count }, () => range);
const tooMany = etcdError('tooManyOps').message;

describe('operations of a transaction', () => {
  test('are 128 at most, as etcd counts them', () => {
    expect(
      txn({ compare: many(128).map(() => ({ key })), success: many(128), failure: many(128) }),
    ).not.toThrow();
    expect(txn({ success: many(129) })).toThrow(tooMany);
    expect(txn({ failure: many(129) })).toThrow(tooMany);
    expect(txn({ compare: many(129).map(() => ({ key })) })).toThrow(tooMany);
  });

  test('of a level within count with those around it', () => {
    expect(txn({ success: [nested({ success: many(127) })] })).not.toThrow();
    expect(txn({ success: [nested({ success: many(128) })] })).toThrow(tooMany);
    expect(txn({ success: [...many(63), nested({ success: many(65) })] })).toThrow(tooMany);
  });

  test('are no more in many transactions than in one', () => {
    const level = nested({ success: many(64) });
    expect(txn({ success: [level, level, level, level] })).not.toThrow();
    expect(txn({ success: Array.from({ length: 64 }, () => level) })).toThrow(tooMany);
  });

  test('are not at any depth', () => {
    const deep = (depth: number): Txn =>
      depth === 0 ? { success: [range] } : { success: [nested(deep(depth - 1))] };
    expect(txn(deep(MAX_DEPTH - 1))).not.toThrow();
    expect(txn(deep(MAX_DEPTH))).toThrow(tooMany);
  });

  test('that name nothing are refused at any depth', () => {
    expect(txn({ success: [{}] })).toThrow(etcdError('keyNotFound').message);
    expect(txn({ failure: [nested({ success: [{}] })] })).toThrow(etcdError('keyNotFound').message);
    expect(txn({ compare: [{}] })).toThrow(etcdError('emptyKey').message);
    const noKey: Op = { request: { case: 'requestDeleteRange', value: { rangeEnd: key } } };
    expect(txn({ success: [nested({ failure: [noKey] })] })).toThrow(etcdError('emptyKey').message);
  });
});

test('what is not defined is refused: etcd ends on some of it', () => {
  expect(() => checkRange(create(RangeRequestSchema, { key, sortTarget: 9 as never, sortOrder: 1 }))).toThrow(
    etcdError('invalidSortOption').message,
  );
  expect(() => checkRange(create(RangeRequestSchema, { key, sortOrder: 3 as never }))).toThrow(
    etcdError('invalidSortOption').message,
  );
  expect(txn({ compare: [{ key, target: 5 as never }] })).toThrow('not defined');
  expect(txn({ compare: [{ key, result: 4 as never }] })).toThrow('not defined');
  const unsorted: Op = {
    request: { case: 'requestRange', value: { key, sortTarget: 9 as never, sortOrder: 1 } },
  };
  expect(txn({ success: [nested({ success: [unsorted] })] })).toThrow(etcdError('invalidSortOption').message);
});

test('a put that keeps what it gives is refused', () => {
  const put = (init: MessageInitShape<typeof PutRequestSchema>) => () =>
    checkPut(create(PutRequestSchema, init));
  expect(put({})).toThrow(etcdError('emptyKey').message);
  expect(put({ key, ignoreValue: true, value: key })).toThrow(etcdError('valueProvided').message);
  expect(put({ key, ignoreLease: true, lease: 1n })).toThrow(etcdError('leaseProvided').message);
  expect(put({ key, ignoreLease: true, ignoreValue: true })).not.toThrow();
});

test('a request is 1.5 MiB at most', () => {
  const put = (length: number) => {
    const request = create(PutRequestSchema, { key, value: new Uint8Array(length) });
    return () => checkSize(PutRequestSchema, request, request.key.length + request.value.length);
  };
  const MiB = 1024 * 1024;
  expect(put(1.5 * MiB - 64)).not.toThrow();
  expect(put(1.5 * MiB - 8)).toThrow(etcdError('requestTooLarge').message);
  expect(put(2 * MiB)).toThrow(etcdError('requestTooLarge').message);
  const value: Op = { request: { case: 'requestPut', value: { key, value: new Uint8Array(MiB / 2) } } };
  const request = create(TxnRequestSchema, { success: [nested({ failure: [value, value] }), value, value] });
  expect(payloadOf(request)).toBe(2 * MiB + 4);
  expect(() => checkSize(TxnRequestSchema, request, payloadOf(request))).toThrow(
    etcdError('requestTooLarge').message,
  );
});
