import { expect, test } from 'vitest';
import { bytesOf } from '../../../test/support/etcd.ts';
import { growthOf, type Operation } from './growth.ts';
import { OF_A_KEY, Usage } from './usage.ts';

const KIB = 1024;

/** Of a namespace that has `k`, with a KiB. */
async function usageOf(): Promise<Usage> {
  const usage = new Usage();
  const none = { header: { revision: 1n }, kvs: [], more: false, count: 0n };
  await usage.scan({ unary: async () => none } as unknown as Parameters<Usage['scan']>[0]);
  const event = { lease: 0n, version: 1n, createRevision: 2n, value: new Uint8Array(KIB) };
  usage.told(2n, [{ type: 'put', key: bytesOf('k'), ...event }]);
  return usage;
}

const put = (key: string, bytes: number): Operation => ({
  case: 'requestPut',
  value: { key: bytesOf(key), value: new Uint8Array(bytes) },
});
const txn = (success: readonly Operation[], failure: readonly Operation[] = []): Operation => ({
  case: 'requestTxn',
  value: {
    success: success.map((request) => ({ request })),
    failure: failure.map((request) => ({ request })),
  },
});

test('what is written counts though the namespace does not grow by it: of each request, the branch that writes more', async () => {
  const usage = await usageOf();
  const written = (request: Operation) => growthOf(usage, request).written;
  const [again, less, tiny] = [put('k', KIB), put('k', KIB / 2), put('t', 1)];
  const whole = KIB + 1 + OF_A_KEY;
  expect(written(again)).toBe(whole);
  for (const one of [txn([again]), txn([], [again]), txn([again], [tiny]), txn([tiny], [again])])
    expect(written(one)).toBe(whole);
  expect(written(txn([less]))).toBe(KIB / 2 + 1 + OF_A_KEY);
  expect(written(txn([txn([], [again]), tiny]))).toBe(whole + 2 + OF_A_KEY);
  expect(written(txn([]))).toBe(0);
});

test('a namespace grows by the branch that adds more to what it keeps, and not by what it replaces', async () => {
  const usage = await usageOf();
  const { put: grown, replaced } = growthOf(usage, txn([put('k', KIB)], [put('t', 1)]));
  expect([grown, replaced]).toEqual([2 + OF_A_KEY, 0]);
  const same = growthOf(usage, put('k', KIB));
  expect(same.put - same.replaced).toBe(0);
});
