import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DeleteRangeResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
  TxnResponseSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { WatchResponseSchema } from '../../../lib/etcd/gen/watch_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { Keyspace } from './keyspace.ts';
import { LeaseIds } from './lease-ids.ts';
import { deleteReply, putReply, rangeReply, txnReply } from './replies.ts';
import { anyKey } from './requests.fixture.ts';
import { watchReply } from './watches.ts';

const space = new Keyspace(utf8('a/one/'));
const leases = new LeaseIds(new Uint8Array(32), space.prefix);
const view = { space, leases, floor: 10n };
const kv = (key: Uint8Array) => ({
  key,
  value: utf8('v'),
  createRevision: 3n,
  modRevision: 12n,
  version: 2n,
  lease: leases.upstream(7n),
});

/** Each reply that has this key somewhere. */
const replies = (key: Uint8Array) => [
  () => rangeReply(view, create(RangeResponseSchema, { kvs: [kv(space.key(utf8('x'))), kv(key)] })),
  () => putReply(view, create(PutResponseSchema, { prevKv: kv(key) })),
  () => deleteReply(view, create(DeleteRangeResponseSchema, { prevKvs: [kv(key)] })),
  () =>
    txnReply(
      view,
      create(TxnResponseSchema, {
        responses: [inTxn(inTxn({ response: { case: 'responseRange', value: { kvs: [kv(key)] } } }))],
      }),
    ),
  () => watchReply(view, create(WatchResponseSchema, { events: [{ kv: kv(key) }] })),
  () =>
    watchReply(
      view,
      create(WatchResponseSchema, { events: [{ kv: kv(space.key(utf8('x'))), prevKv: kv(key) }] }),
    ),
];

type Inner = NonNullable<
  NonNullable<Parameters<typeof create<typeof TxnResponseSchema>>[1]>['responses']
>[number];
const inTxn = (inner: Inner): Inner => ({ response: { case: 'responseTxn', value: { responses: [inner] } } });

describe('replies', () => {
  test('have the client’s keys and leases', () => {
    const { kvs } = rangeReply(view, create(RangeResponseSchema, { kvs: [kv(utf8('a/one/x'))], count: 1n }));
    expect(kvs).toEqual([{ ...kv(utf8('x')), key: utf8('x'), lease: 7n }]);
  });

  test('with a key of elsewhere are no replies', () => {
    fc.assert(
      fc.property(anyKey, (key) => {
        fc.pre(!space.has(key));
        for (const reply of replies(key)) expect(reply).toThrow('nothing of it was passed on');
      }),
    );
    for (const key of ['a/one/', 'a/one', 'a/one0', 'k/lease-key', 'a/two/x', 'x'])
      for (const reply of replies(utf8(key))) expect(reply).toThrow('nothing of it was passed on');
  });
});

describe('a watch', () => {
  const event = (modRevision: bigint) =>
    watchReply(
      view,
      create(WatchResponseSchema, {
        events: [{ kv: { ...kv(utf8('a/one/x')), modRevision }, prevKv: kv(utf8('a/one/x')) }],
      }),
    ).events?.[0];

  test('tells nothing of what was before the floor', () => {
    expect(event(11n)?.prevKv?.key).toEqual(utf8('x'));
    expect(event(10n)).not.toHaveProperty('prevKv');
    expect(event(10n)?.kv?.key).toEqual(utf8('x'));
  });

  test('that is cancelled as compacted is told its own namespace’s floor', () => {
    const compactRevisionOf = (compactRevision: bigint) =>
      watchReply(view, create(WatchResponseSchema, { canceled: true, compactRevision })).compactRevision;
    expect([
      compactRevisionOf(0n),
      compactRevisionOf(-1n),
      compactRevisionOf(4n),
      compactRevisionOf(12n),
    ]).toEqual([0n, 10n, 10n, 12n]);
  });
});
