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

test('who has gone is not waited for, and keeps nobody behind it', async () => {
  const shares = new Shares(2);
  let end = () => {};
  const first = shares.run('a', 1, () => new Promise<void>((resolve) => (end = resolve)));
  const leaving = new AbortController();
  const second = shares.run('a', 2, async () => 'second', leaving);
  const third = shares.run('a', 1, async () => 'third');
  leaving.abort();
  const later = new Promise((resolve) => setTimeout(resolve, 2_000, 'still waiting'));
  const why = second.catch((error: Error) => error.message);
  expect(await Promise.race([why, later])).toBe('context canceled');
  expect(await third).toBe('third');
  await expect(shares.run('a', 2, async () => 'gone', leaving)).rejects.toThrow('context canceled');
  end();
  await first;
});
