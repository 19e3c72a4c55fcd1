import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, lengthPrefixed, toHex, uint64 } from './encoding.ts';

const list = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 6 });

test('two lists encode alike only when they are alike', () => {
  fc.assert(
    fc.property(list, list, (a, b) => {
      const same = a.length === b.length && a.every((item, i) => toHex(item) === toHex(b[i]!));
      expect(toHex(lengthPrefixed(a)) === toHex(lengthPrefixed(b))).toBe(same);
    }),
  );
  expect(toHex(lengthPrefixed([Uint8Array.of(1), Uint8Array.of(2, 3)]))).toBe('0000000101000000020203');
});

test('integers are 8 bytes big-endian, and only those that fit', () => {
  expect(toHex(uint64(258))).toBe('0000000000000102');
  expect(toHex(uint64((1n << 64n) - 1n))).toBe('ffffffffffffffff');
  for (const bad of [-1, 1.5, Number.NaN, 2 ** 53, 1n << 64n, -1n]) {
    expect(() => uint64(bad)).toThrowError(expect.objectContaining({ code: 'ENCODING_RANGE' }));
  }
});

test('hex is strict', () => {
  expect(toHex(fromHex('0x00ff'))).toBe('00ff');
  for (const bad of ['0', 'zz', '0x0', '00 ', '0x0g']) {
    expect(() => fromHex(bad)).toThrowError(expect.objectContaining({ code: 'ENCODING_HEX' }));
  }
  expect(() => fromHex('00', 2)).toThrowError(expect.objectContaining({ code: 'ENCODING_HEX' }));
});
