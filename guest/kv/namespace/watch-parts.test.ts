import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { WatchResponseSchema } from '../../../lib/etcd/gen/watch_pb.js';
import { bytesOf } from '../../../test/support/etcd.ts';
import { WatchParts } from './watch-parts.ts';

const MIB = 1024 * 1024;

const message = (revisions: readonly bigint[], fragment: boolean, value = bytesOf('v')) =>
  create(WatchResponseSchema, {
    watchId: 3n,
    fragment,
    events: revisions.map((modRevision) => ({ kv: { key: bytesOf('k'), value, modRevision } })),
  });

const revisionsOf = (answer: ReturnType<WatchParts['take']>) =>
  answer?.events.map(({ kv }) => kv!.modRevision);

test('a revision comes whole, wherever etcd parts it', () => {
  const parts = new WatchParts();
  const first = parts.take(message([5n, 6n, 6n, 7n], true));
  expect(revisionsOf(first)).toEqual([5n, 6n, 6n]);
  expect(first).toMatchObject({ watchId: 3n, fragment: false });
  expect(parts.take(message([7n, 7n], true))).toBeUndefined();
  expect(revisionsOf(parts.take(message([7n, 8n], true)))).toEqual([7n, 7n, 7n, 7n]);
  expect(revisionsOf(parts.take(message([9n], false)))).toEqual([8n, 9n]);
  expect(revisionsOf(parts.take(message([10n, 11n], false)))).toEqual([10n, 11n]);
});

test('a revision that is more than an answer may be is refused', () => {
  const parts = new WatchParts();
  const large = new Uint8Array(16 * MIB);
  for (let n = 0; n < 3; n += 1) parts.take(message([5n], true, large));
  expect(() => parts.take(message([5n], true, large))).toThrow('too large for one answer');
});
