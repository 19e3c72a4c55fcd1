/** The simulation itself, small: that it is seeded, that it agrees with what relays do, and that what is bad shows. */
import { expect, test } from 'vitest';
import { fullAt, MEASURED } from './costs.ts';
import { type SimulationOptions, simulate } from './simulate.ts';

const small = (options: Partial<SimulationOptions> = {}) =>
  simulate({ relays: 500, joins: 4, bad: 0.01, seed: 7, costs: MEASURED, rates: [100], ...options });

test('one seed, one outcome; another seed, another', () => {
  expect(small()).toEqual(small());
  expect(small().rows).not.toEqual(small({ seed: 8 }).rows);
});

test('each body is fetched once by each relay, one or two nodes answer, and all joins come to an end', () => {
  const [row] = small().rows;
  expect(row!.bodies).toBeGreaterThan(0.95);
  expect(row!.bodies).toBeLessThanOrEqual(1);
  expect(row!.answers).toBeGreaterThanOrEqual(1);
  expect(row!.answers).toBeLessThanOrEqual(3);
  expect(row).toMatchObject({ late: 0 });
  // Twice a block and two confirmations.
  expect(row!.joinP50).toBeGreaterThan(48);
});

test('with a third of the relays dead or silent messages take longer, and nodes still join', () => {
  const [good] = small({ bad: 0 }).rows;
  const [bad] = small({ bad: 0.33 }).rows;
  expect(good!.unreached).toBe(0);
  expect(bad!.spreadSeconds).toBeGreaterThan(good!.spreadSeconds + 1);
  expect(bad!.late).toBe(0);
});

test('with all but a few of them bad, joins are late, and no rate counts as sustained', () => {
  const found = small({ bad: 0.97, rates: [1] });
  expect(found.rows[0]!.late).toBeGreaterThan(0);
  expect(found.sustained).toBe(0);
});

test('the part that falls first is the one that is full first, whichever that is', () => {
  const names = (costs: Partial<typeof MEASURED>) => fullAt({ ...MEASURED, ...costs })[0]![0];
  expect(names({ callsOfJoin: 1000 })).toBe('an endpoint that gives 10 calls a second');
  expect(names({ carryMs: 10_000 })).toBe('a processor of a relay');
  expect(names({ syncsOfJoin: 10_000 })).toBe('a disk that syncs 100 times a second');
  const { full, rows, firstFalls } = small();
  expect(rows.at(-1)!.joinsPerMinute).toBe(Math.floor(0.95 * full[firstFalls]!));
});
