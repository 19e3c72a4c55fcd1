/** What a namespace may keep, on a real etcd and with a real ledger. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { etcdError, status } from '../../../lib/etcd/errors.ts';
import { storeShares } from '../../../lib/protocol/store-shares.ts';
import { bytesOf } from '../../../test/support/etcd.ts';
import { owner, startKv, type TestKv } from '../../../test/support/kv.ts';
import { DiskSpace } from './disk-space.ts';
import { Keyspace } from './keyspace.ts';
import { type Client, callOf, clientOf, refusalOf } from './store.fixture.ts';
import { OF_A_KEY, Usage } from './usage.ts';

const timeout = 240_000;
const MIB = 1024 * 1024;
const SHARE = 100_000;
const SHARES = { ...storeShares(), each: SHARE, others: 3 * SHARE };
const FULL = etcdError('noSpace').message;
let kv: TestKv;
let count = 0;

beforeAll(async () => {
  kv = await startKv(undefined, undefined, SHARES);
});

afterAll(async () => kv?.stop());

function fresh(): { client: Client; used: () => number; name: string } {
  count += 1;
  const name = `a/app${count}/`;
  const space = new Keyspace(bytesOf(name));
  const { store } = kv.running;
  return { client: clientOf(store, callOf(name)), used: () => store.usage.usedBy(space), name };
}

/** Two of them fit a share. */
const large = 'x'.repeat(45_000);
/** And six of these. */
const medium = 'x'.repeat(15_000);

test('an app that is full is refused as by etcd, and no other is', { timeout }, async () => {
  const { client } = fresh();
  await client.put('a', large);
  await client.put('b', large);
  await expect(client.put('c', large)).rejects.toMatchObject({
    status: status.resourceExhausted,
    message: 'etcdserver: mvcc: database space exceeded',
  });
  expect(kv.warnings.filter((line) => line.startsWith('an app keeps what it may'))).toHaveLength(1);
  expect(await refusalOf(fresh().client.put('c', large))).toBe('accepted');
  // What does not make it more is done, and what makes it less makes room.
  expect(await refusalOf(client.put('a', large))).toBe('accepted');
  await client.remove('a');
  expect(await refusalOf(client.put('c', large))).toBe('accepted');
  await client.remove('\0', '\0');
});

test('whatever writes is counted, and whatever ends a key', { timeout }, async () => {
  const { client, used } = fresh();
  const put = (key: string, value: string) =>
    ({ request: { case: 'requestPut', value: { key: bytesOf(key), value: bytesOf(value) } } }) as const;
  await client.put('a', 'bc');
  const one = 'a/appN/a'.length + 2 + OF_A_KEY;
  expect(used()).toBeGreaterThanOrEqual(one);
  const floor = used() - one;
  await client.txn({ success: [put('b', 'bc'), put('c', 'bc')] });
  expect(used()).toBe(floor + 3 * one);
  expect(await refusalOf(client.txn({ success: [put('d', large), put('e', large), put('f', large)] }))).toBe(
    FULL,
  );
  const failure = [put('d', large), put('e', large), put('f', large)];
  const nested = { request: { case: 'requestTxn' as const, value: { failure } } };
  expect(await refusalOf(client.txn({ failure: [nested] }))).toBe(FULL);
  await client.remove('a', 'c');
  expect(used()).toBe(floor + one);
  const { ID = 0n } = await client.grant(0n, 1n);
  await client.put('leased', large, { lease: ID });
  expect(used()).toBeGreaterThan(large.length);
  await expect.poll(used, { timeout: 30_000 }).toBe(floor + one);
  await client.remove('\0', '\0');
});

test('leases count as the keys that they are', { timeout }, async () => {
  const { client, used } = fresh();
  await client.put('a', large);
  await client.put('b', large);
  const grants = await Promise.all(Array.from({ length: 40 }, () => refusalOf(client.grant())));
  expect(new Set(grants)).toEqual(new Set(['accepted', FULL]));
  expect(used()).toBeLessThanOrEqual(SHARE);
  await client.remove('\0', '\0');
});

test('writes at the same time are not more than there is room for, nor given up by who goes away', {
  timeout,
}, async () => {
  const { client, used, name } = fresh();
  const put = (n: number) => refusalOf(client.put(`k${n}`, medium));
  const puts = await Promise.all(Array.from({ length: 20 }, (_, n) => put(n)));
  expect(puts.filter((refusal) => refusal === 'accepted')).toHaveLength(6);
  expect(puts.filter((refusal) => refusal === FULL)).toHaveLength(14);
  await client.remove('\0', '\0');
  const leaving = new AbortController();
  const hasty = clientOf(kv.running.store, callOf(name, { signal: leaving.signal }));
  const asked = Array.from({ length: 30 }, (_, n) => refusalOf(hasty.put(`h${n}`, medium)));
  await sleep(1);
  leaving.abort();
  await Promise.all(asked);
  await sleep(300);
  expect(used()).toBeLessThanOrEqual(SHARE);
  await client.remove('\0', '\0');
});

test('all apps together leave room for the owner', { timeout }, async () => {
  const many = Array.from({ length: 4 }, fresh);
  const put = async ({ client }: { client: Client }) => [
    await refusalOf(client.put('a', large)),
    await refusalOf(client.put('b', large)),
  ];
  const refusals = (await Promise.all(many.map(put))).flat();
  expect(refusals.filter((refusal) => refusal === FULL).length).toBeGreaterThan(0);
  const own = clientOf(kv.running.store, { ...callOf('o/'), caller: owner });
  await own.put('mine', large);
  await own.remove('mine');
  for (const { client } of many) await client.remove('\0', '\0');
});

test('where the disk is nearly full, writes are refused, and what is there can be read and deleted', {
  timeout,
}, async () => {
  const { client } = fresh();
  const { store } = kv.running;
  const { header } = await client.put('a', 'b');
  const disk = new DiskSpace(kv.etcd.folder, 2 ** 60);
  expect(await disk.look()).toBe(true);
  store.disk = disk;
  const root = clientOf(store, { ...client.call, caller: owner });
  for (const one of [client, root]) {
    expect(await refusalOf(one.put('a', 'c'))).toBe(FULL);
    expect(await refusalOf(one.grant())).toBe(FULL);
    // It makes nothing larger, and is written all the same.
    const again = { case: 'requestPut', value: { key: bytesOf('a'), value: bytesOf('c') } } as const;
    expect(await refusalOf(one.txn({ success: [{ request: again }] }))).toBe(FULL);
  }
  expect((await client.range('a')).kvs?.[0]?.modRevision).toBe(header!.revision);
  expect((await client.remove('a')).deleted).toBe(1n);
  const again = new DiskSpace(kv.etcd.folder, 1);
  expect(await again.look()).toBe(false);
  store.disk = again;
  expect(await refusalOf(client.put('a', 'c'))).toBe('accepted');
});

test('a share by name is its app’s alone', () => {
  const shares = storeShares({ quotaMiB: 64, shareMiB: 10, shares: { named: 20 } });
  expect(shares.others).toBe(4 * MIB);
  const usage = new Usage(shares);
  const of = (name: string) => usage.shareOf(new Keyspace(bytesOf(name)));
  expect([of('a/named/'), of('a/else/'), of('o/'), of('d/named/')]).toEqual([
    20 * MIB,
    4 * MIB,
    undefined,
    undefined,
  ]);
});

test('a start counts what there is', { timeout }, async () => {
  const { client, used, name } = fresh();
  for (let n = 0; n < 100; n += 1) await client.put(`many/${n}`, `${n}`);
  await client.put('large', large);
  await client.grant();
  const again = new Usage(storeShares());
  // A page at a time, and fewer keys where a page is too much.
  await again.scan(kv.running.upstream, 64);
  expect(again.usedBy(new Keyspace(bytesOf(name)))).toBe(used());
  expect([...again.all()].find(([id]) => id === name)?.[1]).toEqual({ used: used(), share: 32 * MIB });
});
