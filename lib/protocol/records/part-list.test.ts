import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256, toHex } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import {
  encodePartList,
  isListOf,
  looksLikeParts,
  type PartList,
  partListOf,
  partSizes,
  Whole,
} from './part-list.ts';

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
const join = (list: PartList, parts: readonly Uint8Array[]) => {
  const whole = new Whole(list, MOST);
  for (const one of parts) whole.add(one);
  return whole.finish();
};
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
      expect(join(list, partsOf(whole))).toEqual(whole);
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
    parts.slice(0, 2),
    [parts[0]!.slice(1), parts[1]!, parts[2]!],
    [parts[0]!, parts[0]!, parts[2]!],
  ])
    expect(codeFrom(() => join(list, bad))).toBe('RECORD_PARTS');
});

test('a list that has a part twice is refused: a small record would be read as thousands of times another', () => {
  const { part: large, parts: count } = partSizes(65_536);
  const id = toHex(sha256(new Uint8Array()));
  const bomb = encodePartList({
    length: count * large,
    hash: sha256(new Uint8Array()),
    parts: new Array(count).fill(id),
  });
  expect([bomb.length < 65_536, count * large > 100 << 20]).toEqual([true, true]);
  expect(codeFrom(() => partListOf(bomb, 65_536))).toBe('RECORD_PARTS');
  const whole = new Uint8Array(3 * part).fill(5);
  const list = listOf(whole);
  const twice = encodePartList({ ...list, parts: [list.parts[0]!, list.parts[1]!, list.parts[0]!] });
  expect(codeFrom(() => partListOf(twice, MOST))).toBe('RECORD_PARTS');
});

test('a part that looks like a list is bytes of the whole, and leads to no others', () => {
  const inner = encodePartList(listOf(new Uint8Array(2 * part)));
  const whole = new Uint8Array([...inner, ...new Uint8Array(part - inner.length), ...inner]);
  expect(join(listOf(whole), partsOf(whole))).toEqual(whole);
});

test('a part of another length than its place has is refused as it comes, before the next one is asked for', () => {
  const bytes = new Uint8Array(3 * part).fill(5);
  const list = listOf(bytes);
  const codesOf = (...lengths: number[]) => {
    const whole = new Whole(list, MOST);
    return lengths.map((length) => codeFrom(() => whole.add(bytes.slice(0, length))));
  };
  expect(codesOf(part - 1)).toEqual(['RECORD_PARTS']);
  expect(codesOf(part + 1)).toEqual(['RECORD_PARTS']);
  expect(codesOf(part, part, part, part)).toEqual(['done', 'done', 'done', 'RECORD_PARTS']);
});
