import { expect, test } from 'vitest';
import { Rounds } from './rounds.ts';

const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

test('pauses as long as the round says, unless woken', async () => {
  let rounds = 0;
  const pauses = [1, 60_000, 60_000];
  const loop = new Rounds(async () => pauses[rounds++] ?? 60_000);
  loop.start();
  loop.start();
  await soon();
  expect(rounds).toBe(2);
  loop.wake();
  await soon();
  expect(rounds).toBe(3);
  await loop.stop();
});

test('a wake during a round is not lost: another round follows at once, and only one', async () => {
  let rounds = 0;
  let finish = () => {};
  const loop = new Rounds(async () => {
    rounds += 1;
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    return 60_000;
  });
  loop.start();
  loop.wake();
  loop.wake();
  finish();
  await soon();
  expect(rounds).toBe(2);
  finish();
  await soon();
  expect(rounds).toBe(2);
  await loop.stop();
});

test('stop waits for the round that runs, and lets none follow', async () => {
  let ended = 0;
  let finish = () => {};
  const loop = new Rounds(async () => {
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    ended += 1;
    return 0;
  });
  loop.start();
  let stopped = false;
  const stopping = loop.stop().then(() => {
    stopped = true;
  });
  await soon();
  expect([loop.stopped, stopped]).toEqual([true, false]);
  finish();
  await stopping;
  await soon();
  expect(ended).toBe(1);
});
