import { afterAll, beforeAll, expect, test } from 'vitest';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { bytesOf, type Etcd, startEtcd, textOf } from '../../../test/support/etcd.ts';
import type { LedgerEvent } from '../types.ts';
import { EtcdClient } from './client.ts';
import { EtcdRevisions } from './follow.ts';

let etcd: Etcd;
let client: EtcdClient;
beforeAll(async () => {
  etcd = await startEtcd();
  client = new EtcdClient(etcd.socket);
});
afterAll(async () => {
  client?.close();
  await etcd?.stop();
});

interface Seen {
  revisions: bigint[];
  events: LedgerEvent[][];
}

/** Follows until `last` has come. */
async function follow(after: bigint, last: bigint, each: (seen: Seen) => void = () => {}): Promise<Seen> {
  const seen: Seen = { revisions: [], events: [] };
  const stopping = new AbortController();
  const source = await EtcdRevisions.open(client);
  const take = (revision: bigint, events: readonly LedgerEvent[]): void => {
    seen.revisions.push(revision);
    seen.events.push([...events]);
    each(seen);
    if (revision >= last) stopping.abort(new Error('enough'));
  };
  await expect(source.follow(after, take, stopping.signal)).rejects.toThrow('enough');
  return seen;
}

const put = async (key: string, value: string | Uint8Array = 'x'): Promise<bigint> =>
  (await client.unary(KV.method.put, { key: bytesOf(key), value: bytesOf(value) })).header!.revision;
const consecutive = (from: bigint, to: bigint): bigint[] =>
  [...Array(Number(to - from) + 1).keys()].map((n) => from + BigInt(n));

test('the first revision on, one call a revision, however many keys it has', async () => {
  expect(await put('a')).toBe(2n);
  await client.unary(KV.method.txn, {
    success: ['b', 'c', 'd'].map((key) => ({
      request: { case: 'requestPut' as const, value: { key: bytesOf(key), value: bytesOf(key) } },
    })),
  });
  const { header } = await client.unary(KV.method.deleteRange, { key: bytesOf('b'), rangeEnd: bytesOf('d') });
  const { revisions, events } = await follow(1n, header!.revision);
  expect(revisions).toEqual([2n, 3n, 4n]);
  expect(events.map((all) => all.map(({ type, key }) => `${type} ${textOf(key)}`))).toEqual([
    ['put a'],
    ['put b', 'put c', 'put d'],
    ['delete b', 'delete c'],
  ]);
  expect(events[0]![0]).toMatchObject({ version: 1n, createRevision: 2n, lease: 0n });
});

test('a backlog far above what one answer may hold, revisions of many large keys among it', async () => {
  const before = await put('before');
  const large = new Uint8Array(900_000).fill(1);
  for (let index = 0; index < 60; index++) await put(`large/${index}`, large);
  const many = [...Array(100).keys()].map((index) => ({
    request: {
      case: 'requestPut' as const,
      value: { key: bytesOf(`many/${index}`), value: new Uint8Array(30_000) },
    },
  }));
  for (let index = 0; index < 10; index++) await client.unary(KV.method.txn, { success: many });
  const last = await put('after');
  const { revisions, events } = await follow(before, last);
  expect(revisions).toEqual(consecutive(before + 1n, last));
  expect(events.slice(60, 70).map((all) => all.length)).toEqual(Array(10).fill(100));
});

test('goes on where it was when etcd was killed in between', async () => {
  const before = await put('kill');
  const restarted: Promise<void>[] = [];
  for (let index = 0; index < 20; index++) await put('kill');
  const wanted = before + 40n;
  const followed = follow(before, wanted, ({ revisions }) => {
    if (revisions.length === 10) restarted.push(etcd.restart());
  });
  while (restarted.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await restarted[0];
  for (let index = 0; index < 20; index++) await put('kill');
  expect((await followed).revisions).toEqual(consecutive(before + 1n, wanted));
});

test('what is compacted is said, and not skipped', async () => {
  expect((await EtcdRevisions.open(client)).compactRevision()).toBe(0n);
  const newest = await put('compacted');
  await client.unary(KV.method.compact, { revision: newest });
  const source = await EtcdRevisions.open(client);
  expect(source.compactRevision()).toBe(newest);
  const refused = await source.follow(1n, () => {}, new AbortController().signal).catch(codeOf);
  expect(refused).toBe('REVISIONS_COMPACTED');
});

test('ends with what its user throws', async () => {
  const revision = await put('thrown');
  const source = await EtcdRevisions.open(client);
  const each = (): void => {
    throw new Error('stop here');
  };
  await expect(source.follow(revision - 1n, each, new AbortController().signal)).rejects.toThrow('stop here');
});
