import { expect, test } from 'vitest';
import { Shares } from './shares.ts';

test('a namespace waits for itself, in order, and not for another', async () => {
  const shares = new Shares(4);
  const log: string[] = [];
  const ends: (() => void)[] = [];
  const begin = (id: string, weight: number, name: string) =>
    shares.run(id, weight, () => {
      log.push(name);
      return new Promise<void>((resolve) => ends.push(resolve));
    });
  const all = [begin('a', 3, 'a1'), begin('a', 4, 'a2'), begin('a', 1, 'a3'), begin('b', 4, 'b1')];
  expect(log).toEqual(['a1', 'b1']);
  ends[0]!();
  await expect.poll(() => log).toEqual(['a1', 'b1', 'a2']);
  ends[2]!();
  await expect.poll(() => log).toEqual(['a1', 'b1', 'a2', 'a3']);
  for (const end of ends) end();
  await Promise.all(all);
});

test('what fails makes room too', async () => {
  const shares = new Shares(1);
  await expect(shares.run('a', 1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await shares.run('a', 1, async () => 'yes')).toBe('yes');
});
