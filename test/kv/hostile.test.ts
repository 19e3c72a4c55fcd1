/**
 * A client that keeps to no rule, in one namespace of two: the store answers the other one's client after each attack, gives away not a byte
 * of it, and holds no more memory than its bounds. `SEED=N` plays other choices.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KV, type RangeRequest_SortTarget, type RequestOpSchema } from '../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../lib/etcd/gen/lease_pb.js';
import { Random } from '../torture/random.ts';
import { type Attack, attacks } from './hostile/attacks.ts';
import { jsonAttacks } from './hostile/json-attacks.ts';
import { StoreClient } from './support/client.ts';
import { Store } from './support/store.ts';

const SEED = Number(process.env.SEED ?? 41);
const SECRET = 'not-for-the-left';
const ALL = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };
const MEMORY_MB = 400;
/** In bytes, in base64 as JSON has it, and the name that only the store itself knows. */
const TRACES = [SECRET, Buffer.from(SECRET).toString('base64').slice(2, 18), 'a/right'];
const ANSWERS_WITHIN = 20_000;

let folder: string;
let store: Store;
let good: StoreClient;
let pid: number;
let revision = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  store = await Store.start(join(folder, 'store'), { prefixes: ['o/', 'a/left/', 'a/right/'] });
  pid = store.pids[0];
  good = new StoreClient(store.addressOf(2));
  const { ID } = await good.call(Lease.method.leaseGrant, { TTL: 3_000n });
  for (let n = 0; n < 50; n += 1)
    await good.call(KV.method.put, {
      key: Buffer.from(`${SECRET}/${n}`),
      value: Buffer.from(SECRET.repeat(20)),
      lease: ID,
    });
});

afterAll(async () => {
  good?.close();
  await store?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const megabytes = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;

async function stands(attack: Attack): Promise<void> {
  const received = await attack(store.addressOf(1), new Random(SEED));
  const key = Buffer.from('after');
  const { header } = await good.call(
    KV.method.put,
    { key, value: Buffer.from(`${revision}`) },
    ANSWERS_WITHIN,
  );
  expect(Number(header!.revision)).toBeGreaterThan(revision);
  revision = Number(header!.revision);
  const range = { key: Buffer.from(SECRET), rangeEnd: Buffer.from(`${SECRET}0`), countOnly: true };
  expect((await good.call(KV.method.range, range, ANSWERS_WITHIN)).count).toBe(50n);
  expect(store.isRunning && store.pids[0] === pid, 'it is the same process').toBe(true);
  for (const bytes of received)
    for (const trace of TRACES) expect(bytes.includes(trace), `${trace} was sent to the left`).toBe(false);
  expect(megabytes()).toBeLessThan(MEMORY_MB);
}

test('what it looks for is found in what the right client is sent', async () => {
  const [received] = await attacks['right calls for all there is']!(store.addressOf(2), new Random(1));
  expect(received!.includes(SECRET)).toBe(true);
  const json = await jsonAttacks['right requests for all there is']!(store.addressOf(2), new Random(1));
  expect(Buffer.concat(json).includes(TRACES[1]!)).toBe(true);
});

test.each(Object.keys(attacks))('gRPC: %s', async (name) => stands(attacks[name]!));

test.each(Object.keys(jsonAttacks))('JSON: %s', async (name) => stands(jsonAttacks[name]!));

/** Each ends a bare etcd 3.5.16, at once and again at every start, since it is in its log then. */
const FATAL: Readonly<Record<string, MessageInitShape<typeof RequestOpSchema>[]>> = {
  'a key deleted by a range without end, and kept by a put': [
    { request: { case: 'requestDeleteRange', value: { key: Buffer.from('a'), rangeEnd: Buffer.from([0]) } } },
    { request: { case: 'requestPut', value: { key: Buffer.from('x'), ignoreValue: true } } },
  ],
  'a write, and a read that is sorted by nothing that there is': [
    { request: { case: 'requestPut', value: { key: Buffer.from('y') } } },
    {
      request: {
        case: 'requestRange',
        value: { ...ALL, sortOrder: 1, sortTarget: 77 as RangeRequest_SortTarget },
      },
    },
  ],
};

test.each(Object.keys(FATAL))('a transaction that would end etcd for ever: %s', async (name) => {
  const left = new StoreClient(store.addressOf(1));
  try {
    await left.call(KV.method.put, { key: Buffer.from('x'), value: Buffer.from('x') });
    const [first, second] = FATAL[name]! as [(typeof FATAL)[string][number], (typeof FATAL)[string][number]];
    const nested = { request: { case: 'requestTxn' as const, value: { success: [second] } } };
    for (const success of [
      [first, second],
      [first, nested],
    ])
      await expect(left.call(KV.method.txn, { success })).rejects.toMatchObject({ code: 3 });
    await stands(async () => []);
  } finally {
    left.close();
  }
});
