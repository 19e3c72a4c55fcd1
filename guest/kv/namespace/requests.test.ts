import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  CompareSchema,
  RangeRequestSchema,
  type TxnRequest,
  TxnRequestSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { WatchCreateRequestSchema } from '../../../lib/etcd/gen/watch_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { checkTxn } from './check.ts';
import { isOpenEnded, type KeyRange, Keyspace } from './keyspace.ts';
import { LeaseIds, NEVER } from './lease-ids.ts';
import { anyDelete, anyEnd, anyKey, anyPut, anyRange, anyTxn } from './requests.fixture.ts';
import {
  COMPACTED,
  deleteUpstream,
  leasesOf,
  putUpstream,
  rangeUpstream,
  type Scope,
  txnUpstream,
} from './requests.ts';
import { watchUpstream } from './watches.ts';

const RUNS = { numRuns: 500 };
const space = new Keyspace(utf8('a/one/'));
const leases = new LeaseIds(new Uint8Array(32), space.prefix);
const scope: Scope = { space, leases, floor: -1n, owned: new Set([7n]) };

/** Every range of keys that a request of etcd's names. */
function rangesOf({ compare, success, failure }: TxnRequest): KeyRange[] {
  return [
    ...compare,
    ...[...success, ...failure].flatMap(({ request }): KeyRange[] => {
      if (request.case === 'requestTxn') return rangesOf(request.value);
      if (request.case === 'requestPut') return [{ key: request.value.key, rangeEnd: new Uint8Array() }];
      return request.case === undefined ? [] : [request.value];
    }),
  ];
}

function expectInside({ key, rangeEnd }: KeyRange): void {
  expect(space.has(key)).toBe(true);
  expect(isOpenEnded(rangeEnd)).toBe(false);
  if (rangeEnd.length === 0) return;
  expect(Buffer.compare(rangeEnd, space.prefix)).toBe(1);
  expect(Buffer.compare(rangeEnd, space.end)).toBeLessThanOrEqual(0);
}

/** As it travels: what etcd will read. */
const upstreamTxn = (request: TxnRequest, within = scope) =>
  fromBinary(
    TxnRequestSchema,
    toBinary(TxnRequestSchema, create(TxnRequestSchema, txnUpstream(within, request))),
  );

describe('no request leaves its namespace', () => {
  test('a range, a put, a deletion, a watch', () => {
    fc.assert(
      fc.property(anyRange, anyPut, anyDelete, anyKey, anyEnd, (range, put, remove, key, rangeEnd) => {
        expectInside(rangeUpstream(scope, range) as KeyRange);
        expect(space.has(putUpstream(scope, put).key!)).toBe(true);
        expectInside(deleteUpstream(scope, remove) as KeyRange);
        const watch = create(WatchCreateRequestSchema, {
          key: Buffer.compare(key, rangeEnd) ? key : new Uint8Array(),
          rangeEnd,
        });
        expectInside(watchUpstream(scope, watch) as KeyRange);
      }),
      RUNS,
    );
  });

  test('a transaction, at any depth', () => {
    fc.assert(
      fc.property(anyTxn, (request) => {
        const upstream = upstreamTxn(request);
        expect(rangesOf(upstream)).toHaveLength(rangesOf(request).length);
        for (const range of rangesOf(upstream)) expectInside(range);
      }),
      RUNS,
    );
  });

  test('what it selects is what the client names, of its own keys', () => {
    const other = new Keyspace(utf8('a/two/'));
    const selects = ({ key, rangeEnd }: KeyRange, found: Uint8Array) => {
      if (rangeEnd.length === 0) return Buffer.compare(key, found) === 0;
      return (
        Buffer.compare(key, found) <= 0 && (isOpenEnded(rangeEnd) || Buffer.compare(found, rangeEnd) < 0)
      );
    };
    fc.assert(
      fc.property(fc.array(anyKey, { maxLength: 12 }), anyKey, anyEnd, (keys, key, rangeEnd) => {
        const stored = [
          ...keys.map((one) => space.key(one)),
          ...keys.map((one) => other.key(one)),
          utf8('k/lease-key'),
        ];
        const upstream = stored.filter((one) => selects(space.range({ key, rangeEnd }), one));
        const wanted = keys.filter((one) => selects({ key, rangeEnd }, one));
        expect(upstream.map((one) => space.strip(one)).map(String)).toEqual(wanted.map(String));
      }),
      RUNS,
    );
  });
});

describe('prefixes', () => {
  test.each(['a/one/', 'd/front/', 'o/'])('%s is one', (prefix) => {
    expect(new Keyspace(utf8(prefix)).id).toBe(prefix);
  });

  test.each([
    '',
    '/',
    'a/',
    'a/one',
    'a/one/two/',
    'a//',
    'k/',
    'k/auth/',
    'o/x/',
    'A/one/',
    'a/One/',
    'a/one\n/',
  ])('%j is none', (prefix) => {
    expect(() => new Keyspace(utf8(prefix))).toThrow('a namespace is');
  });
});

test('a prefix is what it was when the namespace was made', () => {
  // A Buffer's own copies are views.
  const bytes = Buffer.from('a/one/');
  const made = new Keyspace(bytes);
  bytes.fill(0);
  expect([made.prefix, made.end].map((one) => Buffer.from(one).toString())).toEqual(['a/one/', 'a/one0']);
});

describe('leases', () => {
  test('a put with a lease of its own carries etcd’s id, with any other one that never is', () => {
    fc.assert(
      fc.property(anyPut, (put) => {
        const { lease } = putUpstream(scope, put);
        if (put.lease === 0n) expect(lease).toBe(0n);
        else expect(lease).toBe(put.lease === 7n ? leases.upstream(7n) : NEVER);
      }),
      RUNS,
    );
  });

  test('those of a transaction are found at any depth', () => {
    fc.assert(
      fc.property(anyTxn, (request) => {
        const puts = JSON.stringify(request, (_, value) => (typeof value === 'bigint' ? `${value}n` : value));
        for (const lease of [1n, 7n, 8n])
          if (leasesOf(request).has(lease)) expect(puts).toContain(`"lease":"${lease}n"`);
          else expect(puts).not.toContain(`"lease":"${lease}n","prevKv"`);
      }),
      RUNS,
    );
  });

  const compared = (result: number, value: bigint) => {
    const compare = create(CompareSchema, {
      key: utf8('k'),
      target: 4,
      result,
      targetUnion: { case: 'lease', value },
    });
    const request = create(TxnRequestSchema, { compare: [compare] });
    checkTxn(request);
    const [one] = upstreamTxn(request).compare;
    return [one?.result, one?.targetUnion.value];
  };

  test('are compared by etcd’s ids', () => {
    expect(compared(0, 7n)).toEqual([0, leases.upstream(7n)]);
    expect(compared(3, 8n)).toEqual([3, leases.upstream(8n)]);
    expect(compared(0, 0n)).toEqual([0, 0n]);
  });

  test('more than none is any, less than none is never, and no other order is asked of etcd', () => {
    expect(compared(1, 0n)).toEqual([3, 0n]);
    expect(compared(2, 0n)).toEqual([0, NEVER]);
    expect(() => compared(1, 5n)).toThrow('for equality only');
    expect(() => compared(2, 5n)).toThrow('for equality only');
  });
});

describe('below the floor', () => {
  const compacted: Scope = { ...scope, floor: 10n };
  const at = (revision: bigint) => create(RangeRequestSchema, { key: utf8('k'), revision });

  test('a range is refused as etcd refuses it', () => {
    expect(() => rangeUpstream(compacted, at(9n))).toThrow(etcdError('compacted').message);
    expect(rangeUpstream(compacted, at(10n)).revision).toBe(10n);
    expect(rangeUpstream(compacted, at(0n)).revision).toBe(0n);
  });

  test('a transaction’s is one that etcd has compacted, whatever it has', () => {
    const reads = [9n, 10n, 0n].map(
      (revision) => ({ request: { case: 'requestRange', value: at(revision) } }) as const,
    );
    const { success } = upstreamTxn(create(TxnRequestSchema, { success: reads }), compacted);
    expect(success.map(({ request }) => request.case === 'requestRange' && request.value.revision)).toEqual([
      COMPACTED,
      10n,
      0n,
    ]);
  });

  test('a watch is one that etcd cancels', () => {
    const from = (startRevision: bigint) =>
      watchUpstream({ ...compacted }, create(WatchCreateRequestSchema, { key: utf8('k'), startRevision }))
        .startRevision;
    expect([from(9n), from(10n), from(0n)]).toEqual([COMPACTED, 10n, 0n]);
  });
});

test('fields that are not known do not reach etcd', () => {
  const extra = Uint8Array.from([
    ...toBinary(RangeRequestSchema, create(RangeRequestSchema, { key: utf8('k') })),
    0xa2,
    0x06,
    1,
    1,
  ]);
  const parsed = fromBinary(RangeRequestSchema, extra);
  expect(parsed.$unknown).toHaveLength(1);
  const upstream = create(RangeRequestSchema, rangeUpstream(scope, parsed));
  expect(toBinary(RangeRequestSchema, upstream)).toEqual(
    toBinary(RangeRequestSchema, create(RangeRequestSchema, { key: utf8('a/one/k') })),
  );
});
