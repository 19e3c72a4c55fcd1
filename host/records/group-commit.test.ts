import { expect, test } from 'vitest';
import { GroupCommit } from './group-commit.ts';
import { Refusals } from './refusals.ts';

test('what comes while a group is written is the next one, and no group grows beyond its bound', async () => {
  const groups: string[][] = [];
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const commit = new GroupCommit<string>(async (items) => {
    groups.push([...items]);
    await gates[groups.length - 1]?.promise;
  }, 100);
  for (const item of ['a', 'b', 'c']) commit.push(item, 50);
  let isSettled = false;
  const settled = commit.settled().then(() => {
    isSettled = true;
  });
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  expect(groups).toEqual([['a', 'b']]);
  // The first is being written, the second is open.
  commit.push('d', 40);
  commit.push('e', 1000);
  commit.push('f', 1);
  gates[0]!.resolve();
  await new Promise(setImmediate);
  expect([groups[1], isSettled]).toEqual([['c', 'd', 'e'], false]);
  gates[1]!.resolve();
  await settled;
  await commit.settled();
  expect(groups).toEqual([['a', 'b'], ['c', 'd', 'e'], ['f']]);
});

test('after a failure nothing is written, and everybody is told', async () => {
  let writes = 0;
  const commit = new GroupCommit<string>(async () => {
    writes += 1;
    throw new Error('no disk');
  }, 10);
  for (const item of ['a', 'b']) commit.push(item, 10);
  await expect(commit.settled()).rejects.toThrow('no disk');
  commit.push('c', 1);
  await expect(commit.settled()).rejects.toThrow('no disk');
  await new Promise(setImmediate);
  expect(writes).toBe(1);
});

test('the oldest refusals are forgotten', () => {
  const refusals = new Refusals();
  const bytesOf = (n: number) => Uint8Array.of(n >> 8, n & 0xff);
  const refusal = { kind: 'refused', code: 'RECORD_WORK', message: '' } as const;
  for (let n = 0; n <= 10_000; n++) refusals.remember(bytesOf(n), refusal);
  expect([0, 1, 10_000].map((n) => refusals.of(bytesOf(n)))).toEqual([undefined, refusal, refusal]);
});
