/** What one request makes etcd read, on a real etcd: its memory is what is at stake. */
import { readFileSync } from 'node:fs';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  Compare_CompareTarget,
  type RangeRequestSchema,
  type RequestOpSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import { bytesOf } from '../../../test/support/etcd.ts';
import { startKv, type TestKv } from '../../../test/support/kv.ts';
import { type Client, callOf, clientOf, refusalOf } from './store.fixture.ts';

const timeout = 120_000;
const MB = 1_000_000;
const KEYS = 30;
const ALL = { key: bytesOf('k'), rangeEnd: bytesOf('l') };
const SMALL = { key: bytesOf('small/'), rangeEnd: bytesOf('small0') };
const TOO_MUCH = etcdError('readTooLarge').message;
let kv: TestKv;
let client: Client;
let filled: bigint;

beforeAll(async () => {
  kv = await startKv();
  client = clientOf(kv.running.store, callOf('a/hostile/'));
  for (let n = 0; n < KEYS; n += 1) await client.put(`k${n}`, 'x'.repeat(MB));
  for (let n = 0; n < 100; n += 1) await client.put(`small/${n}`, 'y');
  await client.put('edge/a', 'y');
  await client.put('edge/b', 'x'.repeat(MB));
  filled = (await client.range('k', '', {})).header!.revision!;
}, timeout);

afterAll(async () => kv?.stop());

/** The most that etcd has had in memory, in megabytes. */
function peak(): number {
  const { pid } = kv.etcd.process();
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

type Op = MessageInitShape<typeof RequestOpSchema>;
const range = (value: MessageInitShape<typeof RangeRequestSchema>): Op => ({
  request: { case: 'requestRange', value },
});
const times = <T>(count: number, one: T): T[] => Array.from({ length: count }, () => one);

const refused: Readonly<Record<string, () => Promise<unknown>>> = {
  'many wide ranges': () => client.txn({ success: times(64, range(ALL)) }),
  'wide ranges of the branch that is not taken': () => client.txn({ failure: times(64, range(ALL)) }),
  'nested ones': () =>
    client.txn({
      success: times(64, { request: { case: 'requestTxn', value: { success: [range(ALL)] } } } satisfies Op),
    }),
  'comparisons of wide ranges': () =>
    client.txn({
      compare: times(64, { ...ALL, target: Compare_CompareTarget.VERSION, result: 2 } as const),
    }),
  'wide ranges of the past': () => client.txn({ success: times(64, range({ ...ALL, revision: filled })) }),
  // Unsorted, so many would be few enough.
  'the first of what is sorted': () =>
    client.txn({ success: times(30, range({ ...ALL, limit: 1n, sortOrder: 2 })) }),
  // Of each etcd reads the large key behind the small one too, to see that there is more.
  'what is one more than the first': () =>
    client.txn({
      success: times(128, range({ key: bytesOf('edge/a'), rangeEnd: bytesOf('edge/c'), limit: 1n })),
    }),
  'the same large key again and again': () =>
    client.txn({ success: times(100, range({ key: bytesOf('k1') })) }),
};

test.each(Object.keys(refused))(
  '%s in one transaction are too much, and etcd reads little of it',
  {
    timeout,
  },
  async (name) => {
    expect(await refusalOf(refused[name]!())).toBe(TOO_MUCH);
    expect(peak()).toBeLessThan(600);
  },
);

test('whatever comes to little is answered, however it is asked for', { timeout }, async () => {
  const all = await client.range('k', 'l');
  expect(all.kvs).toHaveLength(KEYS);
  const { responses } = await client.txn({ success: [range(ALL), range(ALL)] });
  expect(responses).toHaveLength(2);
  // As many wide ranges as may be, over what is small: this is known only once it was measured.
  const small = await client.txn({
    success: times(64, range(SMALL)),
    failure: times(64, range({ ...ALL, countOnly: true })),
  });
  expect(small.responses).toHaveLength(64);
  const old = await client.txn({ success: times(64, range({ ...SMALL, revision: filled })) });
  expect(old.responses).toHaveLength(64);
  const first = await client.txn({ success: times(30, range({ ...ALL, limit: 1n })) });
  expect(first.responses).toHaveLength(30);
  expect(await refusalOf(client.txn({ success: times(3, range({ ...ALL, revision: 2n ** 40n })) }))).toBe(
    etcdError('futureRevision').message,
  );
});

test('what is written while ranges are measured is not read by them', { timeout }, async () => {
  const other = clientOf(kv.running.store, callOf('a/racing/'));
  for (let n = 0; n < 2; n += 1) await other.put('a', 'b');
  const asked = other.txn({ success: times(64, range(ALL)) });
  const puts = Array.from({ length: 20 }, (_, n) => other.put(`k${n}`, 'x'.repeat(MB)));
  const found = await asked.then(
    ({ responses }) =>
      responses!.map(({ response }) =>
        response?.case === 'responseRange' ? response.value.kvs?.length : -1,
      ),
    (error: Error) => error.message,
  );
  expect(found).toEqual(times(64, 0));
  await Promise.all(puts);
});

test('many requests at once do not come to more than etcd has room for', { timeout }, async () => {
  const clients = ['a/hostile/', 'a/racing/', 'a/third/'].map((prefix) =>
    clientOf(kv.running.store, callOf(prefix)),
  );
  for (let n = 0; n < 20; n += 1) await clients[2]!.put(`k${n}`, 'x'.repeat(MB));
  const asked = clients.flatMap((one) => times(12, one).map((each) => each.range('k', 'l')));
  for (const { kvs } of await Promise.all(asked)) expect(kvs!.length).toBeGreaterThan(0);
  expect(peak()).toBeLessThan(900);
});

test('what keys a lease has is asked for by a few at a time', { timeout }, async () => {
  const many = clientOf(kv.running.store, callOf('a/leases/'));
  const { ID = 0n } = await many.grant();
  const long = 'x'.repeat(MB);
  for (let n = 0; n < 20; n += 1) await many.put(`${long}${n}`, '', { lease: ID });
  const asked = times(12, ID).map((lease) => many.timeToLive(lease));
  for (const { keys } of await Promise.all(asked)) expect(keys).toHaveLength(20);
  expect(peak()).toBeLessThan(900);
});
