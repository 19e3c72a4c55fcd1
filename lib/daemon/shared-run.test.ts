import { expect, test } from 'vitest';
import { sharedRun } from './shared-run.ts';

/** A task whose runs are ended by hand. */
function newTask() {
  const ends: { resolve(value: number): void; reject(error: Error): void }[] = [];
  const run = sharedRun(() => new Promise<number>((resolve, reject) => void ends.push({ resolve, reject })));
  return { ends, run };
}
const turns = async () => {
  for (let n = 0; n < 10; n += 1) await undefined;
};

test('who asks during a run gets the next one, however many they are; each run begins after it was asked for', async () => {
  const { ends, run } = newTask();
  const first = run();
  const others = [run(), run(), run()];
  expect(ends).toHaveLength(1);
  ends[0]!.resolve(1);
  await turns();
  expect(ends).toHaveLength(2);
  const last = run();
  ends[1]!.resolve(2);
  await turns();
  ends[2]!.resolve(3);
  expect([await first, await Promise.all(others), await last]).toEqual([1, [2, 2, 2], 3]);
  void run();
  expect(ends).toHaveLength(4);
});

test('a run that fails is the failure of those who asked for it, and of no others', async () => {
  const { ends, run } = newTask();
  const first = run();
  const second = run();
  ends[0]!.reject(new Error('gone'));
  await expect(first).rejects.toThrow('gone');
  await turns();
  ends[1]!.resolve(2);
  expect(await second).toBe(2);
  const third = run();
  ends[2]!.resolve(3);
  expect(await third).toBe(3);
});
