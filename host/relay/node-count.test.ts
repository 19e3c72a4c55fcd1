import { expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { NodeCount } from './node-count.ts';

const hash = (n: number): string => n.toString(16).padStart(64, '0');

test('each node counts once, also for a process that starts anew and sees the same events again', () => {
  const store = openStore(':memory:');
  const count = new NodeCount(store);
  expect(count.nodes).toBe(1);
  expect([1, 2, 1].map((n) => count.saw(hash(n)))).toEqual([true, true, false]);
  expect(count.nodes).toBe(3);
  const again = new NodeCount(store);
  expect([2, 1].map((n) => again.saw(hash(n)))).toEqual([false, false]);
  expect([again.nodes, again.has(hash(1)), again.has(hash(3))]).toEqual([3, true, false]);
  expect(again.saw(hash(3))).toBe(true);
  expect(new NodeCount(store).nodes).toBe(4);
});

test('what is remembered of them is bounded: the oldest goes', () => {
  const store = openStore(':memory:');
  const count = new NodeCount(store);
  for (let n = 1; n <= 4100; n += 1) count.saw(hash(n));
  expect(store.count('nodes/seen/')).toBe(4096);
  const again = new NodeCount(store);
  expect([again.nodes, again.has(hash(4)), again.has(hash(5))]).toEqual([4101, false, true]);
});
