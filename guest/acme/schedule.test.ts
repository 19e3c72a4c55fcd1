import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jitter, nextOrder, ORDERS_A_WEEK, type Situation } from './schedule.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;
const NOW = 1_800_000_000;
const names = ['site.example'];
const present = { serial: '0a', notBefore: NOW, notAfter: NOW + 90 * DAY };
const situation = (over: Partial<Situation> = {}): Situation => ({
  now: NOW,
  node: '11'.repeat(16),
  names,
  present: undefined,
  since: NOW,
  firstWithin: 600,
  orders: [],
  ...over,
});
const at = (over: Partial<Situation>) => nextOrder(situation(over));

describe('a first certificate', () => {
  test('is ordered within the time that is given, by each node at a moment of its own', () => {
    const moments = Array.from({ length: 50 }, (_, i) => at({ node: `${i}` }).at - NOW);
    expect(Math.min(...moments)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...moments)).toBeLessThan(600);
    expect(new Set(moments).size).toBe(50);
    expect(at({})).toEqual(at({}));
  });

  // An order takes some 10 s, and relays spread what came of it.
  test('of ten nodes that start at once, more than two order in less than 3 of 100 cases, where it takes 15 s to hear of one', () => {
    let crowded = 0;
    const cases = 2_000;
    for (let i = 0; i < cases; i++) {
      const moments = Array.from({ length: 10 }, (_, node) => jitter(`${i}.${node}`, names, '') * 600);
      const first = Math.min(...moments);
      if (moments.filter((moment) => moment < first + 15).length > 2) crowded++;
    }
    expect(crowded).toBeLessThan(cases * 0.03);
  });
});

describe('a renewal', () => {
  test('is after two thirds of the lifetime, by all nodes within a twentieth', () => {
    for (let i = 0; i < 50; i++) {
      const due = at({ present, node: `${i}` });
      expect(due.because).toBe('due');
      expect(due.at).toBeGreaterThanOrEqual(NOW + 60 * DAY);
      expect(due.at).toBeLessThan(NOW + 64.5 * DAY);
    }
  });

  test('is when the authority proposes, also at once', () => {
    const proposed = { start: NOW + 10 * DAY, end: NOW + 11 * DAY, learned: NOW };
    const due = at({ present, proposed }).at;
    expect(due).toBeGreaterThanOrEqual(proposed.start);
    expect(due).toBeLessThan(proposed.end);
  });

  test('is within ten minutes when the authority proposes a time that has passed, by each node at a moment of its own', () => {
    const learned = NOW + 5 * DAY;
    const moments = Array.from({ length: 50 }, (_, node) =>
      at({ present, node: `${node}`, proposed: { start: 0, end: 1, learned } }),
    ).map((order) => order.at - learned);
    expect(Math.min(...moments)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...moments)).toBeLessThan(600);
    expect(new Set(moments).size).toBe(50);
    // Of a certificate of ten minutes, no more than its share.
    const brief = { ...present, notAfter: NOW + 600 };
    const soon = { start: 0, end: 1, learned: NOW + 10 };
    expect(at({ present: brief, proposed: soon }).at).toBeLessThan(NOW + 10 + 30);
  });

  test('is before the end, whatever the authority proposes', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), fc.double({ noNaN: true }), fc.nat(), (start, end, learned) => {
        expect(at({ present, proposed: { start, end, learned } }).at).toBeLessThanOrEqual(NOW + 81 * DAY);
      }),
    );
  });
});

describe('failures', () => {
  const afterFailing = (failures: Partial<NonNullable<Situation['failures']>>) =>
    at({ since: 0, failures: { orders: 0, tries: 0, at: NOW, ...failures } });

  test('make the pauses longer: of orders up to two days, of tries without an order up to an hour', () => {
    const pauses = (kind: 'orders' | 'tries') =>
      [1, 2, 3, 4, 50].map((count) => afterFailing({ [kind]: count }).at - NOW);
    const least = {
      orders: [600, 2 * HOUR, 12 * HOUR, 48 * HOUR, 48 * HOUR],
      tries: [30, 60, 120, 240, HOUR],
    };
    for (const kind of ['orders', 'tries'] as const) {
      pauses(kind).forEach((pause, i) => {
        expect(pause).toBeGreaterThanOrEqual(least[kind][i]!);
        expect(pause).toBeLessThan(least[kind][i]! * 1.25);
      });
    }
    expect(afterFailing({ orders: 1 }).because).toBe('failed');
  });

  test('count from now where the clock was ahead', () => {
    expect(afterFailing({ orders: 1, at: NOW + 400 * DAY }).at).toBeLessThan(NOW + HOUR);
  });

  test('give the authority the time that it asks for, but no year', () => {
    expect(afterFailing({ tries: 1, until: NOW + 5 * HOUR }).at).toBe(NOW + 5 * HOUR);
    expect(afterFailing({ tries: 1, until: NOW + 365 * DAY }).at).toBe(NOW + 48 * HOUR);
  });
});

test('a week has five orders for a set of names, whatever else wants one', () => {
  const orders = [1, 2, 3, 4, 5].map((days) => NOW - days * DAY);
  const held = at({ since: 0, orders });
  expect(held).toEqual({ at: NOW + 2 * DAY, because: 'held' });
  expect(at({ since: 0, orders: orders.slice(1) }).because).toBe('none');
  // Those of weeks before are forgotten, and those of a clock that was ahead are of today.
  expect(at({ since: 0, orders: orders.map((time) => time - 7 * DAY) }).because).toBe('none');
  expect(at({ since: 0, orders: orders.map((time) => time + 365 * DAY) }).at).toBe(NOW + 7 * DAY);
});

test('however orders go, no week has more', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }), (succeeds) => {
      const orders: number[] = [];
      let now = NOW;
      let failures: Situation['failures'];
      for (const success of succeeds) {
        // Each certificate is gone at once: the hungriest case.
        now = Math.max(now, Math.ceil(at({ now, since: 0, orders, failures }).at));
        orders.push(now);
        failures = success ? undefined : { orders: (failures?.orders ?? 0) + 1, tries: 0, at: now };
        const week = orders.filter((time) => time > now - 7 * DAY);
        expect(week.length).toBeLessThanOrEqual(ORDERS_A_WEEK);
      }
    }),
  );
});
