import { expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { storeShares } from '../../../lib/protocol/store-shares.ts';
import { bytesOf } from '../../../test/support/etcd.ts';
import type { Upstream } from '../types.ts';
import type { Operation } from './growth.ts';
import { Keyspace } from './keyspace.ts';
import { Reads, type Watching } from './reads.ts';
import { Usage } from './usage.ts';

const MIB = 1024 * 1024;
const TOO_MUCH = etcdError('readTooLarge').message;
const space = new Keyspace(bytesOf('a/one/'));
const ALL = { key: bytesOf('a/one/'), rangeEnd: bytesOf('a/one0') };
const NOBODY: Watching = { streams: 0, previous: 0 };

/** Of an etcd that has nothing, until it is told. */
const empty = {
  unary: async () => ({ header: { revision: 1n }, kvs: [], more: false, count: 0n }),
} as unknown as Upstream;

async function usageOf(keys: number, bytes: number): Promise<Usage> {
  const usage = new Usage(storeShares());
  await usage.scan(empty);
  const value = new Uint8Array(bytes);
  for (let n = 0; n < keys; n += 1)
    usage.told(BigInt(n + 2), [
      { type: 'put', key: bytesOf(`a/one/${n}`), value, lease: 0n, version: 1n, createRevision: 2n },
    ]);
  return usage;
}

const txn = (count: number, request: Operation): Operation => ({
  case: 'requestTxn',
  value: { success: Array.from({ length: count }, () => ({ request })) },
});

const costOf = (usage: Usage, request: Operation, put = 0, watching = NOBODY) =>
  new Reads(empty, usage).costOf(space, { request, growth: { put, replaced: 0, written: put }, watching });

test('what is put counts for each stream that is told of it', async () => {
  const usage = await usageOf(0, 0);
  const put = { case: 'requestPut', value: { key: bytesOf('a/one/k') } } as const;
  expect(costOf(usage, put, MIB, { streams: 64, previous: 0 })).toBe(64 * MIB);
  expect(() => costOf(usage, put, MIB, { streams: 65, previous: 0 })).toThrow(TOO_MUCH);
});

test('what was before counts for each stream that is told of it', async () => {
  const usage = await usageOf(1, MIB);
  const put = { case: 'requestPut', value: { key: bytesOf('a/one/0') } } as const;
  const remove = { case: 'requestDeleteRange', value: ALL } as const;
  for (const request of [put, remove, txn(1, put), txn(1, remove)]) {
    expect(costOf(usage, request, 0, { streams: 60, previous: 60 })).toBeGreaterThan(60 * MIB);
    // More is measured, and then refused.
    expect(costOf(usage, request, 0, { streams: 70, previous: 70 })).toBeUndefined();
    expect(costOf(usage, request, 0, { streams: 70, previous: 0 })).toBeLessThan(MIB);
  }
});

test('what is only counted or deleted counts for the keys that etcd looks at', async () => {
  const usage = await usageOf(2_000, 0);
  const count = { case: 'requestRange', value: { ...ALL, countOnly: true } } as const;
  const remove = { case: 'requestDeleteRange', value: ALL } as const;
  for (const request of [count, remove]) {
    expect(costOf(usage, txn(10, request))).toBeGreaterThan(10 * 2_000 * 64);
    expect(costOf(usage, txn(600, request))).toBeUndefined();
  }
});

test('one range may have as many keys as there are', async () => {
  const usage = await usageOf(2_000, 0);
  const count = { case: 'requestRange', value: { ...ALL, countOnly: true } } as const;
  expect(costOf(usage, count)).toBeGreaterThan(2_000 * 64);
  for (let n = 0; n < 2_000; n += 1)
    usage.told(5_000n, [
      {
        type: 'delete',
        key: bytesOf(`a/one/${n}`),
        value: bytesOf(''),
        lease: 0n,
        version: 0n,
        createRevision: 0n,
      },
    ]);
  // Etcd still has them in its index.
  expect(costOf(usage, count)).toBeGreaterThan(2_000 * 64);
  usage.compacted(5_000n);
  expect(costOf(usage, count)).toBeLessThan(2_000 * 64);
});

test('deleted keys that etcd still has cannot be looked at again and again', async () => {
  const usage = await usageOf(2_000, 0);
  for (let n = 0; n < 2_000; n += 1)
    usage.told(BigInt(30_000 + n), [
      {
        type: 'delete',
        key: bytesOf(`a/one/${n}`),
        value: bytesOf(''),
        lease: 0n,
        version: 0n,
        createRevision: 0n,
      },
    ]);
  const count = { case: 'requestRange', value: { ...ALL, countOnly: true } } as const;
  expect(costOf(usage, txn(1_000, count))).toBeGreaterThan(0);
  expect(() => costOf(usage, txn(1_001, count))).toThrow(TOO_MUCH);
  expect(usage.deletedOf()).toBe(2_000);
  usage.compacted(30_999n);
  // Those of one entry count until all of it is compacted.
  expect(usage.deletedOf(space)).toBeGreaterThanOrEqual(1_000);
  expect(usage.deletedOf(space)).toBeLessThan(1_100);
  usage.compacted(50_000n);
  expect(usage.deletedOf(space)).toBe(0);
});
