/** Bech32 (BIP-173), encoding only, and without its limit of 90 characters, which Cosmos does not have either. */
import { DstackError } from '../protocol/errors.ts';

const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

/** @throws BECH32_PREFIX for a prefix that is not 1 to 83 lower-case printable characters */
export function bech32(prefix: string, data: Uint8Array): string {
  if (!/^[!-@[-~]{1,83}$/.test(prefix)) {
    throw new DstackError(
      'BECH32_PREFIX',
      `${JSON.stringify(prefix)} is no prefix of bech32: lower-case ASCII is`,
    );
  }
  const groups = fiveBits(data);
  const expanded = [...prefix].map((letter) => letter.charCodeAt(0));
  const head = [...expanded.map((code) => code >> 5), 0, ...expanded.map((code) => code & 31)];
  const sum = polymod([...head, ...groups, 0, 0, 0, 0, 0, 0]) ^ 1;
  const checksum = Array.from({ length: 6 }, (_, n) => (sum >>> (5 * (5 - n))) & 31);
  return `${prefix}1${[...groups, ...checksum].map((group) => ALPHABET[group]).join('')}`;
}

function fiveBits(data: Uint8Array): number[] {
  const bits = [...data].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (bits.match(/.{1,5}/g) ?? []).map((group) => Number.parseInt(group.padEnd(5, '0'), 2));
}

function polymod(values: readonly number[]): number {
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [n, word] of GENERATOR.entries()) if ((top >>> n) & 1) sum ^= word;
  }
  return sum;
}
