import { expect, test } from 'vitest';
import { RateLimit } from './rate-limit.ts';

test('a key may burst, then gets its tokens back with time; another key has its own', () => {
  let now = 0;
  const limit = new RateLimit({ burst: 3, perSecond: 2, now: () => now });
  expect([1, 2, 3, 4].map(() => limit.take('a'))).toEqual([true, true, true, false]);
  expect(limit.take('b')).toBe(true);
  now = 1000;
  expect([1, 2, 3].map(() => limit.take('a'))).toEqual([true, true, false]);
  now = 0;
  expect(limit.take('a')).toBe(false);
});

test('remembers so many keys; the one unused for longest starts afresh', () => {
  const limit = new RateLimit({ burst: 1, perSecond: 0, maxKeys: 2, now: () => 0 });
  expect(['a', 'b', 'a'].map((key) => limit.take(key))).toEqual([true, true, false]);
  expect(limit.take('c')).toBe(true);
  expect(['a', 'b'].map((key) => limit.take(key))).toEqual([false, true]);
});
