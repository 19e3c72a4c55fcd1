import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256, toHex } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import { encodePartList, isListOf, joinParts, looksLikeParts, partListOf, partSizes } from './part-list.ts';

const MOST = 1024;
const { part, parts: most } = partSizes(MOST);
const codeFrom = (act: () => unknown): string => {
  try {
    act();
    return 'done';
  } catch (error) {
    return codeOf(error);
  }
};
const listOf = (whole: Uint8Array) => ({
  length: whole.length,
  hash: sha256(whole),
  parts: Array.from({ length: Math.ceil(whole.length / part) }, (_, i) => toHex(sha256(Uint8Array.of(i)))),
});
const partsOf = (whole: Uint8Array) =>
  Array.from({ length: Math.ceil(whole.length / part) }, (_, i) => whole.slice(i * part, (i + 1) * part));

test('a list of parts fits into one masked value, is read back, and its parts make the whole', () => {
  expect([part, most]).toEqual([952, 28]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: most * part }), (length) => {
      const whole = new Uint8Array(length).map((_, i) => i % 251);
      const list = listOf(whole);
      const bytes = encodePartList(list);
      expect(bytes.length).toBeLessThanOrEqual(part);
      expect(partListOf(bytes, MOST)).toEqual(list);
      expect([isListOf(bytes, whole), isListOf(bytes, whole.slice(1)), isListOf(whole, whole)]).toEqual([
        true,
        false,
        false,
      ]);
      expect(joinParts(list, partsOf(whole))).toEqual(whole);
    }),
  );
});

test('what begins as a list and is none of this network is refused; what does not begin so is a value', () => {
  const whole = new Uint8Array(3 * part).fill(5);
  const bytes = encodePartList(listOf(whole));
  expect(partListOf(whole, MOST)).toBeUndefined();
  expect(looksLikeParts(bytes.subarray(1))).toBe(false);
  for (const bad of [bytes.slice(0, -1), bytes.slice(0, -32), bytes.slice(0, 40), bytes.with(20, 99)])
    expect(codeFrom(() => partListOf(bad, MOST))).toBe('RECORD_PARTS');
  expect(codeFrom(() => partListOf(bytes, 65_536))).toBe('RECORD_PARTS');
  expect(codeFrom(() => partListOf(encodePartList(listOf(new Uint8Array((most + 1) * part))), MOST))).toBe(
    'RECORD_PARTS',
  );
});

test('parts that do not make the whole are refused', () => {
  const whole = new Uint8Array(3 * part).map((_, i) => i % 249);
  const [list, parts] = [listOf(whole), partsOf(whole)];
  for (const bad of [
    parts.slice(1),
    [...parts, parts[0]!],
    parts.toReversed(),
    [parts[0]!, parts[0]!, parts[2]!],
  ])
    expect(codeFrom(() => joinParts(list, bad))).toBe('RECORD_PARTS');
});
