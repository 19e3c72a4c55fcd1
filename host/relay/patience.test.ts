import { expect, test } from 'vitest';
import { patienceFor } from './patience.ts';

test('who fills the log with requests has every block read, and no more looked for in its filter than there is time for', () => {
  const looked: string[] = [];
  const hash = (n: number) => n.toString(16).padStart(64, '0');
  const block = {
    age: 100,
    followed: 0,
    names: (subject: string) => {
      looked.push(subject);
      return subject === hash(3);
    },
  };
  const about = (count: number) => Array.from({ length: count }, (_, n) => hash(n));
  expect(patienceFor(block, 256, about(64), () => 700)).toBe(600);
  expect(looked).toHaveLength(64);
  expect(patienceFor(block, 256, about(65), () => 700)).toBe(0);
  expect(looked).toHaveLength(64);
});

test('no block is left for so long that a request in it could be over, whatever its filter names beside that', () => {
  const left = (followed: number, window: number) =>
    patienceFor(
      { age: 0, followed, names: () => true },
      window,
      ['ab'.repeat(32)],
      () => Number.POSITIVE_INFINITY,
    );
  expect([left(0, 8), left(1, 8), left(2, 8), left(20, 8)]).toEqual([Infinity, Infinity, 0, 0]);
  expect([left(0, 1), left(0, 3), left(15, 256)]).toEqual([0, 0, Infinity]);
});
