import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { sha256, to0x, toHex } from './encoding.ts';
import {
  addressKey,
  bareHex,
  chainHex,
  isAddress,
  parseAddress,
  parseHex,
  sameAddress,
  sameHex,
} from './hex.ts';

const BYTES = sha256(new Uint8Array(3));
const CHECKSUMMED = parseAddress('0x5FbDB2315678afecb367f032d93F642f64180aa3');

test('hex is the same bytes in both spellings', () => {
  expect(sameHex(toHex(BYTES), to0x(BYTES))).toBe(true);
  expect(sameHex(parseHex('0xAB'), parseHex('ab'))).toBe(true);
  expect(sameHex(parseHex('0x00'), parseHex('0000'))).toBe(false);
  expect(bareHex(to0x(BYTES))).toBe(toHex(BYTES));
  expect(chainHex(toHex(BYTES))).toBe(to0x(BYTES));
});

test.each(['0x0', 'abc', 'zz', '0x0x00', ' 00', '00\n'])('%j is not hex', (text) => {
  expect(() => parseHex(text)).toThrow(expect.objectContaining({ code: 'ENCODING_HEX' }));
});

test('an address is the same in any case', () => {
  const low = parseAddress(CHECKSUMMED.toLowerCase());
  const high = parseAddress(`0x${CHECKSUMMED.slice(2).toUpperCase()}`);
  expect(sameAddress(low, CHECKSUMMED)).toBe(true);
  expect(sameAddress(high, CHECKSUMMED)).toBe(true);
  expect(addressKey(high)).toBe(low);
  expect(sameAddress(low, parseAddress(`0x${'11'.repeat(20)}`))).toBe(false);
});

test.each(['', '0x', `0x${'1'.repeat(39)}`, `0x${'1'.repeat(41)}`, '1'.repeat(40), `0x${'g'.repeat(40)}`])(
  '%j is not an address',
  (text) => {
    expect(isAddress(text)).toBe(false);
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'ADDRESS_INVALID' }));
  },
);

test('the product compares no address by hand', () => {
  const byHand = /(?:contract|address|networkKey|node|signer|owner)\)?\??\.toLowerCase\(\)\)? *[!=]==/i;
  const files = globSync('{lib,guest,host,cli,app-example,auditing}/**/*.ts', {
    cwd: `${import.meta.dirname}/../..`,
    exclude: ['**/*.test.ts'],
  });
  expect(files.length).toBeGreaterThan(100);
  const found = files.filter((file) =>
    byHand.test(readFileSync(`${import.meta.dirname}/../../${file}`, 'utf8')),
  );
  expect(found).toEqual([]);
});
