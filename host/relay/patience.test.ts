import { expect, test } from 'vitest';
import { patienceFor } from './patience.ts';

test('who fills the log with requests has every block read, and no more looked for in its filter than there is time for', () => {
  const looked: string[] = [];
  const hash = (n: number) => n.toString(16).padStart(64, '0');
  const block = {
    age: 100,
    names: (subject: string) => {
      looked.push(subject);
      return subject === hash(3);
    },
  };
  const about = (count: number) => Array.from({ length: count }, (_, n) => hash(n));
  expect(patienceFor(block, about(64), () => 700)).toBe(600);
  expect(looked).toHaveLength(64);
  expect(patienceFor(block, about(65), () => 700)).toBe(0);
  expect(looked).toHaveLength(64);
});
