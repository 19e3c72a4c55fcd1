/** A bounded sample of `npm run torture`: one small round of four sections each, and two of `mesh`, with fixed seeds. */
import { expect, test, vi } from 'vitest';
import { meshRound } from './mesh.ts';
import { playRound } from './round.ts';

vi.setConfig({ testTimeout: 240_000 });

const good = { converged: true, doubleOnboards: 0, doublePurposes: 0, stuckNonces: 0, problems: [] };

test.concurrent("relays of both sides and the owner's commands are killed on the way: the network converges", async () => {
  const verdict = await playRound('kills', 11, 0.5);
  expect(verdict).toMatchObject(good);
  expect(verdict.kills).toBeGreaterThan(3);
});

test.concurrent('blocks are replaced all the time, at last all since the bootstrap: every transaction comes back, once', async () => {
  const verdict = await playRound('reorgs', 12, 0.25);
  expect(verdict).toMatchObject(good);
  expect(verdict.reorgs).toBeGreaterThan(3);
});

test.concurrent('the endpoints of both relays misbehave in one way after the other: nothing is lost', async () => {
  const verdict = await playRound('rpc', 13, 0.6);
  expect(verdict).toMatchObject(good);
  expect(verdict.lies).toBeGreaterThan(5);
});

test.concurrent('strangers copy, flood, hold connections and register what they never publish: nodes join meanwhile', async () => {
  const verdict = await playRound('gossip', 14, 0.3);
  expect(verdict).toMatchObject(good);
  expect(verdict.strangers).toBeGreaterThan(80);
});

test.concurrent('relays are parted from each other, among peers who lie in every way: at last each has every message, checked once', async () => {
  for (const seed of [3, 4]) {
    const verdict = await meshRound(seed, 0.5);
    expect(verdict).toMatchObject({ converged: true, problems: [] });
    expect(verdict.lies).toBeGreaterThan(5);
  }
});
