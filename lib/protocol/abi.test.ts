/** The codecs against an ABI library of another author's: the same bytes for the same values, and nothing else is decoded. */
import { AbiCoder } from 'ethers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  address,
  bigUint,
  bool,
  bytes,
  type Codec,
  decodeStrictly,
  enumOf,
  fixedBytes,
  listOf,
  smallUint,
  struct,
  text,
} from './abi.ts';
import { to0x } from './encoding.ts';
import { codeOf } from './errors.ts';
import { type Address, type Hex, parseAddress } from './hex.ts';

const oracle = AbiCoder.defaultAbiCoder();
const hexOf = (size: number) => fc.uint8Array({ minLength: size, maxLength: size }).map(to0x);
const pair = struct({ key: fixedBytes(32), at: bigUint(64) });

const everything = struct({
  count: smallUint(32),
  wide: bigUint(256),
  yes: bool,
  who: address,
  short: fixedBytes(6),
  note: text,
  pairs: listOf(pair),
  state: enumOf(['none', 'open', 'answered']),
  data: bytes,
  one: pair,
  numbers: listOf(bigUint(256)),
});
const TYPES = [
  'uint32',
  'uint256',
  'bool',
  'address',
  'bytes6',
  'string',
  '(bytes32,uint64)[]',
  'uint8',
  'bytes',
  '(bytes32,uint64)',
  'uint256[]',
];
const pairs = fc.record({ key: hexOf(32), at: fc.bigInt(0n, 2n ** 64n - 1n) });
const values = fc.record({
  count: fc.nat(2 ** 32 - 1),
  wide: fc.bigInt(0n, 2n ** 256n - 1n),
  yes: fc.boolean(),
  who: hexOf(20).map(parseAddress),
  short: hexOf(6),
  note: fc.string({ unit: 'binary' }),
  pairs: fc.array(pairs, { maxLength: 5 }),
  state: fc.constantFrom('none', 'open', 'answered'),
  data: fc.uint8Array({ maxLength: 100 }).map(to0x),
  one: pairs,
  numbers: fc.array(fc.bigInt(0n, 2n ** 256n - 1n), { maxLength: 3 }),
});
type Values = ReturnType<typeof everything.decode>;

const asLibrary = (value: Values) => [
  value.count,
  value.wide,
  value.yes,
  value.who,
  value.short,
  value.note,
  value.pairs.map(({ key, at }) => [key, at]),
  ['none', 'open', 'answered'].indexOf(value.state),
  value.data,
  [value.one.key, value.one.at],
  value.numbers,
];

test('encodes as the library does, and decodes to the same values', () => {
  fc.assert(
    fc.property(values, (value) => {
      const encoded = oracle.encode(TYPES, asLibrary(value as Values));
      expect(`0x${everything.encode(value as Values)}`).toBe(encoded);
      const decoded = decodeStrictly(everything, encoded, 'reply');
      expect({ ...decoded, who: decoded.who.toLowerCase() }).toEqual(value);
    }),
    { numRuns: 300 },
  );
});

test('decodes nothing but what it would encode: any changed digit, cut or addition that is taken is another value', () => {
  const refusedOrSame = (data: string): boolean => {
    try {
      return `0x${everything.encode(decodeStrictly(everything, data, 'reply'))}` === data;
    } catch (error) {
      return codeOf(error) === 'CONTRACT_DATA_INVALID';
    }
  };
  fc.assert(
    fc.property(values, fc.nat(), fc.constantFrom(...'0123456789abcdef'), (value, at, digit) => {
      const good = `0x${everything.encode(value as Values)}`;
      const place = 2 + (at % (good.length - 2));
      expect(refusedOrSame(good.slice(0, place) + digit + good.slice(place + 1))).toBe(true);
      expect(refusedOrSame(good.slice(0, place))).toBe(true);
      expect(() => decodeStrictly(everything, `${good}00`, 'reply')).toThrowError(/another shape/);
    }),
    { numRuns: 300 },
  );
});

const word = (digits: string): string => `0x${digits.padStart(64, '0')}`;
const list = struct({ value: listOf(pair) });

test.each<[string, Codec<unknown>, string]>([
  ['a bool of 2', bool as Codec<unknown>, word('2')],
  ['an address of 32 bytes', address as Codec<unknown>, `0x${'ff'.repeat(32)}`],
  ['a uint32 of 33 bits', smallUint(32) as Codec<unknown>, word('100000000')],
  ['a uint64 of 65 bits', bigUint(64) as Codec<unknown>, word(`1${'0'.repeat(16)}`)],
  ['bytes6 with a seventh', fixedBytes(6) as Codec<unknown>, `0x${'11'.repeat(7).padEnd(64, '0')}`],
  ['a member that the enum does not have', enumOf(['a', 'b']) as Codec<unknown>, word('2')],
  ['more entries than bytes', list as Codec<unknown>, `${word('20')}${word('10000000').slice(2)}`],
  ['an offset beyond the end', list as Codec<unknown>, `${word('ffffffff')}${word('0').slice(2)}`],
  ['an offset into its own head', list as Codec<unknown>, word('0')],
  [
    'text that is no UTF-8',
    struct({ value: text }) as Codec<unknown>,
    `${word('20')}${word('1').slice(2)}${'ff'.padEnd(64, '0')}`,
  ],
  ['nothing', bool as Codec<unknown>, '0x'],
  ['no hex', bool as Codec<unknown>, 'nonsense'],
])('refuses %s', (_what, codec, data) => {
  expect(() => decodeStrictly(codec, data, 'reply')).toThrowError(
    expect.objectContaining({ code: 'CONTRACT_DATA_INVALID' }),
  );
});

test.each<[string, () => unknown]>([
  ['a number that is none', () => smallUint(32).encode(1.5)],
  ['a negative one', () => bigUint(64).encode(-1n)],
  ['one that is too large', () => smallUint(16).encode(65_536)],
  ['an address that is too short', () => address.encode('0x11' as Address)],
  ['bytes of half a digit', () => bytes.encode('0x1' as Hex)],
  ['a name that the enum does not have', () => enumOf(['a']).encode('b' as 'a')],
])('refuses to encode %s', (_what, encode) => {
  expect(encode).toThrowError(expect.objectContaining({ code: 'CONTRACT_ARGUMENT_INVALID' }));
});
