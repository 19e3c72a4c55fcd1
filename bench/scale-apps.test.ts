import { expect, test } from 'vitest';
import { appsRead } from './scale-apps.ts';

test('a fresh node lists all apps of a network that has had more names than a page, but those that were withdrawn', async () => {
  // 270 live ones: a page is 250.
  const { live, listed, calls } = await appsRead(324);
  expect(live).toHaveLength(270);
  expect(listed).toEqual(live);
  expect(calls).toBe(2);
}, 120_000);
