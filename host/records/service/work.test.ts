import { expect, test } from 'vitest';
import { sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { isSolution } from '../../../lib/protocol/records/equihash.ts';
import { doWork } from './work.ts';

const SEED = sha256(utf8('work of threads'));
/** Nobody ever finds it. */
const ENDLESS = 0xffffffff;

test('threads find what is asked for, and are gone then', async () => {
  const before = process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
  const { difficulty, nonce, solution } = await doWork(SEED, 2, { threads: 2 });
  expect([difficulty, isSolution(SEED, nonce, solution)]).toEqual([2, true]);
  expect(
    process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length,
  ).toBeLessThanOrEqual(before);
});

test('work ends as soon as nobody wants it, before it began or while it says how far it is', async () => {
  const codeOfWork = (signal: AbortSignal, onProgress = () => {}) =>
    doWork(SEED, ENDLESS, { threads: 2, signal, onProgress }).then(() => 'done', codeOf);
  expect(await codeOfWork(AbortSignal.abort())).toBe('RECORD_WORK_CANCELLED');
  const cancelled = new AbortController();
  expect(await codeOfWork(cancelled.signal, () => cancelled.abort())).toBe('RECORD_WORK_CANCELLED');
});

test('what a thread fails with is told', async () => {
  await expect(doWork(new Uint8Array(3), 1, { threads: 1 })).rejects.toSatisfy(
    (error) => codeOf(error) !== 'INTERNAL',
  );
});
