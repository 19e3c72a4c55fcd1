/** Masks and attributes against the same arithmetic on whole numbers without a sign, of which the highest bit is a bit like any other. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { alignUp } from '../../protocol/encoding.ts';
import { equalUnderMask } from '../collateral/qe-identity.ts';
import { codeOfRefusal } from '../testing.ts';
import { requireTdAttributes, STRICT_TD_ATTRIBUTES } from './td-attributes.ts';

const bytesOf = (value: bigint, width: number) => {
  const bytes = new Uint8Array(width);
  for (let at = 0; at < width; at++) bytes[at] = Number((value >> BigInt(8 * at)) & 0xffn);
  return bytes;
};
/** Numbers near the ends, where a sign would show, as often as any other. */
const unsigned = (bits: number) => {
  const top = 1n << BigInt(bits);
  return fc.oneof(
    fc.constantFrom(0n, 1n, top >> 1n, (top >> 1n) - 1n, top - 1n),
    fc.bigInt({ min: 0n, max: top - 1n }),
  );
};

test.each([4, 8, 16])(
  'a value of %i bytes is compared under its mask as a number without a sign',
  (width) => {
    const any = unsigned(8 * width);
    fc.assert(
      fc.property(any, any, any, fc.boolean(), (value, mask, other, same) => {
        const expected = same ? value & mask : other;
        const got = equalUnderMask(bytesOf(value, width), bytesOf(mask, width), bytesOf(expected, width));
        expect(got).toBe((value & mask) === expected);
      }),
      { numRuns: 2_000 },
    );
  },
);

test('the highest bit of MISCSELECT, in report and identity both', () => {
  const highest = bytesOf(1n << 31n, 4);
  const all = bytesOf(0xffff_ffffn, 4);
  expect(equalUnderMask(highest, all, highest)).toBe(true);
  expect(equalUnderMask(highest, all, bytesOf(0n, 4))).toBe(false);
  expect(equalUnderMask(bytesOf(0n, 4), all, highest)).toBe(false);
});

test('TD attributes are refused exactly when a bit is set that is neither named nor in the mask', () => {
  const named = [0, 4, 5, 6, 16, 27, 28, 29, 30, 31, 62, 63].reduce(
    (sum, bit) => sum | (1n << BigInt(bit)),
    0n,
  );
  const lenient = {
    debug: true,
    septVeEnabled: true,
    migratable: true,
    pks: true,
    keyLocker: true,
    perfmon: true,
  };
  fc.assert(
    fc.property(unsigned(64), unsigned(64), fc.boolean(), (set, mask, known) => {
      const attributes = known ? set & (named | mask) : set;
      const open = (attributes & ~named & ~mask) !== 0n;
      const attempt = () =>
        requireTdAttributes(bytesOf(attributes, 8), { ...lenient, reserved: bytesOf(mask, 8) });
      expect(codeOfRefusal(attempt)).toBe(open ? 'TD_RESERVED' : 'ACCEPTED');
    }),
    { numRuns: 2_000 },
  );
});

test('the strict reading takes SEPT_VE_DISABLE and what is harmless, and no other bit', () => {
  const harmless = (1n << 16n) | (1n << 27n) | (1n << 62n);
  for (let bit = 0n; bit < 64n; bit++) {
    const attributes = bytesOf((1n << bit) | (1n << 28n), 8);
    const accepted = ((1n << bit) & harmless) !== 0n || bit === 28n;
    const code = codeOfRefusal(() => requireTdAttributes(attributes, STRICT_TD_ATTRIBUTES));
    expect(code === 'ACCEPTED', `bit ${bit}: ${code}`).toBe(accepted);
  }
});

test('a place in a file is rounded up as a number without a sign, at any size of it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 40 }), fc.constantFrom(4, 8, 512), (value, unit) => {
      const up = alignUp(value, unit);
      expect(up % unit).toBe(0);
      expect(up - value).toBeGreaterThanOrEqual(0);
      expect(up - value).toBeLessThan(unit);
    }),
  );
  expect(alignUp(2 ** 31 + 1, 4)).toBe(2 ** 31 + 4);
  expect(alignUp(2 ** 32 - 1, 4)).toBe(2 ** 32);
});
