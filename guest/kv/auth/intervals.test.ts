import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { isOpenEnded, type KeyRange } from '../namespace/keyspace.ts';
import { Intervals, isValidRange } from './intervals.ts';

const OPEN = '\0';
const range = (key: string, rangeEnd = ''): KeyRange => ({ key: utf8(key), rangeEnd: utf8(rangeEnd) });
const allows = (permissions: readonly KeyRange[], wanted: KeyRange) =>
  new Intervals(permissions).contains(wanted);

describe('a range is allowed', () => {
  test.each([
    ['a key by itself', [range('a')], range('a'), true],
    ['not the next key', [range('a')], range('a\0'), false],
    ['a range of one key, as that key', [range('a')], range('a', 'a\0'), true],
    ['a part of a range', [range('a', 'f')], range('b', 'c'), true],
    ['the range itself', [range('a', 'f')], range('a', 'f'), true],
    ['not its end', [range('a', 'f')], range('f'), false],
    ['not beyond its end', [range('a', 'f')], range('b', 'g'), false],
    ['not before its beginning', [range('b', 'f')], range('a', 'c'), false],
    ['by two that meet', [range('a', 'c'), range('c', 'f')], range('a', 'f'), true],
    ['by a key and what follows it', [range('a'), range('a\0', 'c')], range('a', 'c'), true],
    ['not over a gap', [range('a', 'c'), range('c\0', 'f')], range('a', 'f'), false],
    ['without an end by one without an end', [range('a', OPEN)], range('b', OPEN), true],
    ['with an end by one without', [range('a', OPEN)], range('b', 'z'), true],
    ['not without an end by one that has one', [range('a', 'z')], range('b', OPEN), false],
    ['not all of it by all but the first', [range('b', OPEN)], range('\0', OPEN), false],
    ['all of it by all of it', [range('\0', OPEN)], range('\0', OPEN), true],
    ['nothing by nothing', [], range('a'), false],
  ])('%s', (_, permissions, wanted, allowed) => {
    expect(allows(permissions, wanted)).toBe(allowed);
  });

  test('if and only if each of its keys is', () => {
    // All keys of up to two letters: between them no permission of such letters begins or ends.
    const letters = ['a', 'b', 'c'];
    const keys = letters.flatMap((one) => [one, ...letters.map((two) => one + two)]).sort();
    const anyRange = fc
      .tuple(fc.constantFrom(...keys), fc.constantFrom('', OPEN, ...keys))
      .map(([key, end]) => range(key, end))
      .filter(isValidRange);
    const has = ({ key, rangeEnd }: KeyRange, found: Uint8Array) => {
      if (rangeEnd.length === 0) return Buffer.compare(key, found) === 0;
      return (
        Buffer.compare(key, found) <= 0 && (isOpenEnded(rangeEnd) || Buffer.compare(found, rangeEnd) < 0)
      );
    };
    // Besides the keys, what lies right behind each, and behind all.
    const probes = [...keys, ...keys.map((key) => `${key}\0`), 'z'].map(utf8);
    fc.assert(
      fc.property(fc.array(anyRange, { maxLength: 5 }), anyRange, (permissions, wanted) => {
        const each = probes
          .filter((probe) => has(wanted, probe))
          .every((probe) => permissions.some((permission) => has(permission, probe)));
        expect(allows(permissions, wanted)).toBe(each);
      }),
      { numRuns: 3_000 },
    );
  });
});

test.each([
  [range('a'), true],
  [range('a', 'b'), true],
  [range('a', OPEN), true],
  [range('\0', OPEN), true],
  [range(''), false],
  [range('b', 'a'), false],
  [range('a', 'a'), false],
])('a permission for %o can be given: %s', (wanted, valid) => {
  expect(isValidRange(wanted)).toBe(valid);
});
