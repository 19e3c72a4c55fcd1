import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import vectors from '../../../testdata/protocol/records.json' with { type: 'json' };
import { fromHex, toHex } from '../encoding.ts';
import { MAX_ORDINAL, openOrdinal, ordinalRanges, ordinalTag } from './ordinals.ts';
import { bytesOf } from './records.fixture.ts';

const key = bytesOf('ordinal key');
const ordinals = fc.oneof(
  fc.bigInt({ min: 0n, max: MAX_ORDINAL }),
  fc.bigInt({ min: 0n, max: 300n }),
  fc.bigInt({ min: MAX_ORDINAL - 300n, max: MAX_ORDINAL }),
);
const within = (tag: Uint8Array, { from, to }: { from: Uint8Array; to: Uint8Array }): boolean =>
  Buffer.compare(from, tag) <= 0 && Buffer.compare(tag, to) <= 0;

test.each(vectors.ordinals)('vector: $ordinal', (vector) => {
  const tag = ordinalTag(fromHex(vector.key), BigInt(vector.ordinal));
  expect(toHex(tag)).toBe(vector.tag);
  expect(openOrdinal(fromHex(vector.key), tag)).toBe(BigInt(vector.ordinal));
});

test('a tag is read back by who has the key, and every 8 bytes are a tag', () => {
  fc.assert(
    fc.property(ordinals, fc.uint8Array({ minLength: 8, maxLength: 8 }), (ordinal, tag) => {
      expect(openOrdinal(key, ordinalTag(key, ordinal))).toBe(ordinal);
      expect(toHex(ordinalTag(key, openOrdinal(key, tag)))).toBe(toHex(tag));
    }),
  );
});

test('a range of ordinals is exactly its ranges of tags', () => {
  fc.assert(
    fc.property(ordinals, ordinals, ordinals, (a, b, c) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      const ranges = ordinalRanges(key, from, to);
      expect(ranges.length).toBeLessThanOrEqual(126);
      for (const one of [from, to, c, from - 1n, to + 1n].filter((it) => it >= 0n && it <= MAX_ORDINAL)) {
        const tag = ordinalTag(key, one);
        const inside = ranges.filter((range) => within(tag, range)).length;
        expect(inside).toBe(one >= from && one <= to ? 1 : 0);
      }
      // As many tags as ordinals, in order, and none twice.
      const sizes = ranges.map((range) => toBig(range.to) - toBig(range.from) + 1n);
      expect(sizes.reduce((sum, size) => sum + size, 0n)).toBe(to - from + 1n);
      expect(ranges.every(({ from: next }, i) => i === 0 || toBig(ranges[i - 1]!.to) < toBig(next))).toBe(
        true,
      );
    }),
    { numRuns: 40 },
  );
  expect(ordinalRanges(key, 1n, MAX_ORDINAL - 1n)).toHaveLength(126);
  expect(ordinalRanges(key, 0n, MAX_ORDINAL)).toEqual([
    { from: new Uint8Array(8), to: new Uint8Array(8).fill(0xff) },
  ]);
});

describe('what tags show', () => {
  test('how many leading bits two ordinals of a name share, and nothing else of them', () => {
    fc.assert(
      fc.property(ordinals, ordinals, (a, b) => {
        const tags = toBig(ordinalTag(key, a)) ^ toBig(ordinalTag(key, b));
        expect(tags.toString(2).length).toBe((a ^ b).toString(2).length);
        expect(tags === 0n).toBe(a === b);
      }),
    );
  });

  test('not the order: half of the pairs are the other way round', () => {
    const turned = Array.from({ length: 400 }, (_, i) => {
      const of = bytesOf(`key ${i}`);
      return Buffer.compare(ordinalTag(of, 5n), ordinalTag(of, 6n)) > 0;
    }).filter(Boolean).length;
    // The keys are fixed, so this is one number and never another.
    expect(turned).toBeGreaterThan(150);
    expect(turned).toBeLessThan(250);
  });

  test('nothing about the same ordinal under another name: every bit is flipped as often as not', () => {
    const counts = new Array<number>(64).fill(0);
    for (let i = 0; i < 400; i++) {
      const bits = toBig(ordinalTag(bytesOf(`key ${i}`), 0n))
        .toString(2)
        .padStart(64, '0');
      for (const [at, bit] of [...bits].entries()) if (bit === '1') counts[at]!++;
    }
    expect(Math.min(...counts)).toBeGreaterThan(140);
    expect(Math.max(...counts)).toBeLessThan(260);
  });
});

test('what is no ordinal is refused', () => {
  for (const bad of [-1n, 2n ** 64n]) {
    expect(() => ordinalTag(key, bad)).toThrowError(expect.objectContaining({ code: 'RECORD_ORDINAL' }));
    expect(() => ordinalRanges(key, 0n, bad)).toThrowError(
      expect.objectContaining({ code: 'RECORD_ORDINAL' }),
    );
  }
  expect(() => ordinalRanges(key, 2n, 1n)).toThrowError(expect.objectContaining({ code: 'RECORD_ORDINAL' }));
  expect(() => openOrdinal(key, new Uint8Array(7))).toThrowError(
    expect.objectContaining({ code: 'RECORD_ORDINAL' }),
  );
});

function toBig(tag: Uint8Array): bigint {
  return Buffer.from(tag).readBigUInt64BE();
}
