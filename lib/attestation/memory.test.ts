import { expect, test } from 'vitest';
import { BoundedMap } from './memory.ts';

/** How many of the keys it still had when they came, in turn. */
function hitsOf(map: BoundedMap<number>, keys: number, rounds: number): number {
  let hits = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (let key = 0; key < keys; key += 1) {
      if (map.get(String(key)) === key) hits += 1;
      else map.set(String(key), key);
    }
  }
  return hits;
}

test('a map holds no more than its limit, and what it gives is what was set', () => {
  const map = new BoundedMap<number>(10);
  for (let key = 0; key < 100; key += 1) map.set(String(key % 25), key % 25);
  map.set('24', 7);
  map.set('24', 24);
  expect(map.size).toBe(10);
  const held = Array.from({ length: 25 }, (_, key) => map.get(String(key)));
  expect(held.filter((value) => value !== undefined)).toHaveLength(10);
  for (const [key, value] of held.entries()) if (value !== undefined) expect(value).toBe(key);
});

test('one more in turn than there is room for loses a few, not all', () => {
  // Nine tenths, by chance; not one of them where the oldest goes first.
  expect(hitsOf(new BoundedMap<number>(128), 129, 20)).toBeGreaterThan(129 * 20 * 0.5);
});

test('a map without room holds nothing', () => {
  const map = new BoundedMap<number>(0);
  expect(hitsOf(map, 3, 3)).toBe(0);
  expect([map.keeps, map.size]).toEqual([false, 0]);
});
