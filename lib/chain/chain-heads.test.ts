import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Claim, NEAR, nearHeads } from './chain-heads.ts';

const { latest: near } = NEAR;
const at = (number: number, timestamp = number * 12): Claim => ({ number, timestamp });

test.each<[string, Claim[], Claim[]]>([
  ['all at one block', [at(100), at(100), at(100)], [at(100)]],
  ['a block apart: the one that a quorum has', [at(101), at(100), at(100)], [at(100)]],
  ['one far behind', [at(100), at(1), at(100)], [at(100)]],
  ['one far ahead', [at(100), at(1_000_000), at(100)], [at(100)]],
  ['one that is silent, one that is old', [at(100), at(50)], []],
  ['one that is silent, one of the future', [at(100), at(1_000_000)], []],
  ['a new block of an old time', [at(100), at(100, 7)], []],
  ['a new block of the future', [at(100), at(100, 9_999)], []],
  ['just within the bounds', [at(132, 1_000), at(100, 910)], [at(100, 910)]],
  ['a block too far', [at(133, 1_000), at(100, 910)], []],
  ['a second too far', [at(132, 1_001), at(100, 910)], []],
  ['one is not enough', [at(100)], []],
])('%s', (_, claims, expected) => {
  expect(nearHeads(claims, 2, near)).toEqual(expected);
});

const claim = fc.record({ number: fc.nat(300), timestamp: fc.nat(600) });
/** A minority lies freely; the host drops what it wants; honest endpoints are anywhere. */
const parliament = fc.integer({ min: 1, max: 7 }).chain((n) => {
  const quorum = Math.floor(n / 2) + 1;
  return fc.record({
    quorum: fc.constant(quorum),
    liars: fc.array(claim, { maxLength: quorum - 1 }),
    honest: fc.array(claim, { maxLength: n }),
  });
});

test('what counts is never above an honest head, nor further behind it than the bounds, in block and in time', () => {
  fc.assert(
    fc.property(parliament, ({ quorum, liars, honest }) => {
      for (const found of nearHeads([...liars, ...honest], quorum, near)) {
        const vouched = honest.some(
          ({ number, timestamp }) =>
            found.number <= number &&
            found.number >= number - near.blocks &&
            found.timestamp <= timestamp &&
            found.timestamp >= timestamp - near.seconds,
        );
        expect(vouched, JSON.stringify(found)).toBe(true);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('with a quorum of honest endpoints near each other, liars stop nothing: the lowest of theirs counts, or a higher one', () => {
  const honestQuorum = fc.integer({ min: 1, max: 7 }).chain((n) => {
    const quorum = Math.floor(n / 2) + 1;
    const close = fc.record({
      number: fc.integer({ min: 200, max: 232 }),
      timestamp: fc.integer({ min: 400, max: 490 }),
    });
    return fc.record({
      quorum: fc.constant(quorum),
      liars: fc.array(claim, { maxLength: n - quorum }),
      honest: fc.array(close, { minLength: quorum, maxLength: quorum }),
    });
  });
  fc.assert(
    fc.property(honestQuorum, ({ quorum, liars, honest }) => {
      const found = nearHeads([...liars, ...honest], quorum, near);
      const lowest = Math.min(...honest.map(({ number }) => number));
      expect(found.map(({ number }) => number)).toContain(lowest);
      expect(found[0]!.number).toBeGreaterThanOrEqual(lowest);
    }),
    { numRuns: 2_000 },
  );
});
