import { expect, test } from 'vitest';
import { remembered } from './remembered.ts';

test('each is made once, until there are more than are remembered', () => {
  const made: string[] = [];
  const of = remembered(2, (key: string) => {
    made.push(key);
    return `${key}!`;
  });
  expect(['a', 'b', 'a', 'c', 'b', 'a'].map(of)).toEqual(['a!', 'b!', 'a!', 'c!', 'b!', 'a!']);
  expect(made).toEqual(['a', 'b', 'c', 'a']);
});

test('what failed is made again', async () => {
  let calls = 0;
  const of = remembered(2, async (key: string) => {
    calls += 1;
    if (calls === 1) throw new Error('away');
    return key;
  });
  await expect(of('a')).rejects.toThrow('away');
  expect([await of('a'), await of('a'), calls]).toEqual(['a', 'a', 2]);
});
