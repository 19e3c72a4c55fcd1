import fc from 'fast-check';
import { expect, test } from 'vitest';
import { REMEMBERED, REST } from '../bridges.ts';
import { Numbers } from './numbers.ts';

test('whoever gets a number had none that anybody still remembers as another: in any order of events', () => {
  expect(REST).toBeGreaterThan(3 * REMEMBERED);
  const event = fc.oneof(
    fc.record({ kind: fc.constant('take' as const) }),
    fc.record({ kind: fc.constant('free' as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant('pass' as const), time: fc.nat(REST) }),
    fc.record({ kind: fc.constant('restart' as const) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      let time = 0;
      let numbers = new Numbers({ first: 64, count: 4 }, () => time);
      const held: number[] = [];
      const freed = new Map<number, number>();
      for (const one of events) {
        if (one.kind === 'pass') time += one.time;
        if (one.kind === 'free' && held.length > 0) {
          const [number] = held.splice(one.which % held.length, 1) as [number];
          numbers.free(number);
          freed.set(number, time);
        }
        if (one.kind === 'restart') {
          // A new daemon sees what there is, and knows nothing of what there was.
          numbers = new Numbers({ first: 64, count: 4 }, () => time);
          numbers.rest();
          for (const number of held) numbers.hold(number);
        }
        if (one.kind !== 'take') continue;
        const number = numbers.take();
        if (number === undefined) continue;
        expect(held).not.toContain(number);
        expect(number).toBeGreaterThanOrEqual(64);
        expect(number).toBeLessThan(68);
        expect(time - (freed.get(number) ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(REST);
        held.push(number);
      }
    }),
  );
});

test('the one that has rested longest comes first, and none is lost', () => {
  let time = 0;
  const numbers = new Numbers({ first: 0, count: 3 }, () => time);
  expect([numbers.take(), numbers.take()]).toEqual([0, 1]);
  numbers.free(1);
  time += 1;
  numbers.free(0);
  time += REST;
  expect([numbers.take(), numbers.take(), numbers.take(), numbers.take()]).toEqual([2, 1, 0, undefined]);
});
