import { create } from '@bufbuild/protobuf';
import { afterEach, expect, test } from 'vitest';
import { CompactionRequestSchema, KV } from '../../../lib/etcd/gen/kv_pb.js';
import { Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { bytesOf } from '../../../test/support/etcd.ts';
import { startKv, type TestKv } from '../../../test/support/kv.ts';
import { Room } from './room.ts';
import { type Client, callOf, clientOf, refusalOf } from './store.fixture.ts';

const timeout = 240_000;
const MIB = 1024 * 1024;
const DATABASE = 4 * MIB;
const COMPACTED = 'etcdserver: mvcc: required revision has been compacted';
let kv: TestKv;
let other: Client;
let greedy: Client;

async function start(quota: number, database = quota): Promise<Room> {
  kv = await startKv(undefined, quota);
  const { store, upstream } = kv.running;
  greedy = clientOf(store, callOf('a/greedy/'));
  other = clientOf(store, callOf('a/other/'));
  return new Room(upstream, store.floors, database);
}

afterEach(async () => kv?.stop());

test('history that somebody wants gives way, and no key does', { timeout }, async () => {
  const room = await start(256 * MIB, DATABASE);
  const first = (await other.put('a', 'b')).header!.revision!;
  const done = new Set<string>();
  for (let n = 0; n < 40; n += 1) {
    await greedy.put('k', 'x'.repeat(200_000));
    done.add(await room.look());
  }
  expect(done).toEqual(new Set(['nothing', 'dropped']));
  expect(await refusalOf(other.range('a', '', { revision: first }))).toBe(COMPACTED);
  expect((await other.range('a')).kvs).toHaveLength(1);
  const { dbSizeInUse } = await kv.running.upstream.unary(Maintenance.method.status, {});
  expect(Number(dbSizeInUse)).toBeLessThan(DATABASE);
  expect(kv.warnings).toEqual([]);
});

test('what all have let go of goes first', { timeout }, async () => {
  const room = await start(256 * MIB, DATABASE);
  await other.put('a', 'b');
  for (let n = 0; n < 15; n += 1) await greedy.put('k', 'x'.repeat(200_000));
  const { revision = 0n } = (await greedy.put('k', 'y')).header!;
  for (const client of [greedy, other])
    await kv.running.store.compact(client.call, create(CompactionRequestSchema, { revision }));
  // Etcd's figures are still those of before, and nobody writes.
  expect(await room.look()).not.toBe('dropped');
  expect((await other.range('a', '', { revision })).kvs).toHaveLength(1);
});

test('many keys that were deleted give way too', { timeout }, async () => {
  await start(256 * MIB, DATABASE);
  const { upstream, store } = kv.running;
  let deleted = 500_001;
  const room = new Room(upstream, store.floors, DATABASE, () => deleted);
  const { revision = 0n } = (await other.put('a', 'b')).header!;
  for (const value of ['c', 'd', 'e']) await other.put('a', value);
  expect(await room.look()).toBe('dropped');
  expect(await refusalOf(other.range('a', '', { revision }))).toBe(COMPACTED);
  deleted = 0;
  expect(await room.look()).toBe('nothing');
});

test('a store that is full takes the writes of all again', { timeout }, async () => {
  const room = await start(16 * MIB);
  await other.put('a', 'b');
  // By whoever it is that writes past the store.
  const put = { key: bytesOf('a/greedy/k'), value: new Uint8Array(1_000_000) };
  const fill = async () => {
    for (let n = 0; n < 100; n += 1) await kv.running.upstream.unary(KV.method.put, put);
  };
  await expect(fill()).rejects.toThrow('database space exceeded');
  const small = { key: bytesOf('a/other/a'), value: bytesOf('c') };
  await expect(kv.running.upstream.unary(KV.method.put, small)).rejects.toThrow('database space exceeded');
  // Nobody can do it by a compaction.
  const { header } = await other.range('a');
  const request = create(CompactionRequestSchema, { revision: header!.revision! });
  await expect(kv.running.store.compact(other.call, request)).rejects.toThrow('database space exceeded');
  await expect.poll(() => room.look(), { timeout: 20_000 }).toBe('dropped');
  expect((await other.range('a')).kvs).toHaveLength(1);
  await other.put('a', 'c');
  expect(await room.look()).toBe('nothing');
  expect(kv.warnings).toEqual([]);
});

test('who writes faster than history gives way waits, and fills the store for nobody', {
  timeout,
}, async () => {
  await start(16 * MIB);
  const { upstream } = kv.running;
  let writing = true;
  // Eight at a time, one key each: in all twice what the database may have.
  const done = Array.from({ length: 8 }, async (_, n) => {
    for (let count = 0; count < 8; count += 1) await greedy.put(`k${n % 2}`, 'x'.repeat(500_000));
  });
  const all = Promise.all(done).finally(() => {
    writing = false;
  });
  while (writing) {
    await other.put('a', 'b');
    expect((await upstream.unary(Maintenance.method.alarm, {})).alarms).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await all;
  expect(kv.warnings).toEqual([]);
});
