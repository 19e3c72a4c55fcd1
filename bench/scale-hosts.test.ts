/** What eight relays do when nodes of others join, counted. */
import { expect, test } from 'vitest';
import { joinFigures } from './scale-hosts.ts';

test('a lone join costs each of eight other relays three calls at most, and no more than two of their nodes answer', async () => {
  const { further, by, onboards, seals } = await joinFigures({ hosts: 8, perBlock: 1, blocks: 1 });
  // Its request and its answer are read once each, with the blocks that show them.
  expect(further, JSON.stringify(by)).toBeLessThanOrEqual(3);
  expect(further).toBeGreaterThan(1);
  expect([onboards <= 2, seals <= 2]).toEqual([true, true]);
});

test('of joins side by side each costs every relay half a call at most, and two nodes that answer', async () => {
  const { further, by, own, onboards, seals } = await joinFigures({ hosts: 8, perBlock: 6, blocks: 2 });
  expect(further, JSON.stringify(by)).toBeLessThanOrEqual(0.5);
  expect([onboards, seals].every((nodes) => nodes >= 1 && nodes <= 2)).toBe(true);
  // The joining relay follows its own two transactions by the blocks, not by the second.
  expect(own).toBeLessThan(150);
});
