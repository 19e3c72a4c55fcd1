import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ChainTime } from './chain-time.ts';

const START = 1_800_000_000;
let reached = { block: 5, timestamp: START, now: START + 10 };
let isSilent = false;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setInterval'] });
  reached = { block: 5, timestamp: START, now: START + 10 };
  isSilent = false;
});
afterEach(() => vi.useRealTimers());

const followed = () =>
  ChainTime.follow(
    async () => {
      if (isSilent) throw new Error('nobody answers');
      return reached;
    },
    { warn: () => {} },
  );

test('it goes on between two answers, and is known for a minute without one', async () => {
  const time = await followed();
  isSilent = true;
  await vi.advanceTimersByTimeAsync(30_000);
  expect(time.now()).toBe(START + 40);
  await vi.advanceTimersByTimeAsync(35_000);
  expect(time.now()).toBeUndefined();
  expect(time.last).toBe(START + 10);
  isSilent = false;
  reached = { block: 6, timestamp: START + 60, now: START + 70 };
  await vi.advanceTimersByTimeAsync(5_000);
  expect(time.now()).toBe(START + 70);
});

test('an hour after the newest block it is not known, though the replicator answers; that of the heads stays', async () => {
  const time = await followed();
  reached = { ...reached, now: START + 3600 };
  await vi.advanceTimersByTimeAsync(5_000);
  expect(time.now()).toBe(START + 3600);
  reached = { ...reached, now: START + 3601 };
  await vi.advanceTimersByTimeAsync(5_000);
  expect(time.now()).toBeUndefined();
  expect(time.last).toBe(START + 3601);
});

test('the time of the heads never goes back', async () => {
  const time = await followed();
  reached = { block: 4, timestamp: START - 50, now: START - 40 };
  await vi.advanceTimersByTimeAsync(5_000);
  expect(time.last).toBe(START + 10);
});
