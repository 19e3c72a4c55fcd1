/** What eight relays do when nodes of others join, counted. */
import { expect, test } from 'vitest';
import { joinFigures, LONE_JOINS } from './scale-hosts.ts';

test('a lone join costs each of eight other relays half a call at most, and no more than two of their nodes answer', async () => {
  const { by, onboards, seals, seconds } = await joinFigures({ hosts: 8, ...LONE_JOINS });
  const { eth_getLogs: logs = 0, eth_call: views = 0 } = by;
  // Only those whose turn comes ask for anything: one log of the request, one of the answer, one look at the answer.
  const calls = (logs + views) / LONE_JOINS.blocks;
  expect(calls, JSON.stringify(by)).toBeLessThanOrEqual(0.5);
  expect([onboards <= 2, seals <= 2]).toEqual([true, true]);
  // It is not for that that a node waits.
  expect(seconds).toBeLessThan(90);
});

test('of joins side by side each costs every relay half a call at most, and two nodes that answer', async () => {
  const { further, by, own, onboards, seals } = await joinFigures({ hosts: 8, perBlock: 6, blocks: 2 });
  expect(further, JSON.stringify(by)).toBeLessThanOrEqual(0.5);
  expect([onboards, seals].every((nodes) => nodes >= 1 && nodes <= 2)).toBe(true);
  // The joining relay follows its own two transactions by the blocks, not by the second.
  expect(own).toBeLessThan(150);
});
