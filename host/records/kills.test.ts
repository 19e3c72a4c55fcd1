/** A sample of `npm run torture -- --only records`, with a fixed seed. */
import { expect, test } from 'vitest';
import { killNodes } from './kills.fixture.ts';

test('a node is killed 200 times while it takes records: what it acknowledged is there, and the index is that of the log', async () => {
  const { kills, acknowledged, lost, problems } = await killNodes(7, 200);
  expect({ lost, problems }).toEqual({ lost: 0, problems: [] });
  expect(kills).toBeGreaterThanOrEqual(200);
  expect(acknowledged).toBeGreaterThan(500);
}, 1_200_000);
