/**
 * The one byte encoding that everything hashed or derived goes through.
 *
 * A list is hashed with a 4-byte big-endian length before each item, so no two different lists encode to the same bytes;
 * integers are 8 bytes big-endian. Hex at a boundary is lower case without 0x unless the field says otherwise.
 */
import { createHash } from 'node:crypto';
import { DstackError } from './errors.ts';
import type { Hex } from './hex.ts';

/** Each item preceded by its length as 4 bytes big-endian. */
export function lengthPrefixed(items: readonly Uint8Array[]): Uint8Array {
  const total = items.reduce((sum, item) => sum + 4 + item.length, 0);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  let offset = 0;
  for (const item of items) {
    view.setUint32(offset, item.length);
    out.set(item, offset + 4);
    offset += 4 + item.length;
  }
  return out;
}

/** A non-negative integer as 8 bytes big-endian. Throws `ENCODING_RANGE` for what does not fit exactly. */
export function uint64(value: number | bigint): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new DstackError('ENCODING_RANGE', `${value} is not an exact integer; pass a bigint`);
  }
  const big = BigInt(value);
  if (big < 0n || big >= 1n << 64n) {
    throw new DstackError('ENCODING_RANGE', `${big} does not fit an unsigned 64-bit integer`);
  }
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, big);
  return out;
}

/**
 * The next multiple of `unit`, or `value` itself. Not by `&`, `|` or `<<`: their 32 bits have a sign, and a length of 4 GiB in
 * a file would lead backwards.
 */
export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Lower-case hex without prefix. */
export function toHex(bytes: Uint8Array): Hex {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex') as Hex;
}

/** Lower-case hex with 0x, the form of chain values. */
export function to0x(bytes: Uint8Array): Hex & `0x${string}` {
  return `0x${toHex(bytes)}` as Hex & `0x${string}`;
}

/**
 * Strict hex, with or without 0x; `length` in bytes when the field has a fixed one.
 * Throws `ENCODING_HEX`: Buffer's own decoder stops silently at the first bad digit.
 */
export function fromHex(text: string, length?: number): Uint8Array {
  const digits = text.startsWith('0x') ? text.slice(2) : text;
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) {
    throw new DstackError('ENCODING_HEX', `not hex: ${JSON.stringify(text.slice(0, 80))}`);
  }
  if (length !== undefined && digits.length !== length * 2) {
    throw new DstackError('ENCODING_HEX', `expected ${length} bytes of hex, got ${digits.length / 2}`);
  }
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

export function sha256(...parts: Uint8Array[]): Uint8Array {
  return digest('sha256', parts);
}

export function sha384(...parts: Uint8Array[]): Uint8Array {
  return digest('sha384', parts);
}

export function sha512(...parts: Uint8Array[]): Uint8Array {
  return digest('sha512', parts);
}

function digest(algorithm: string, parts: Uint8Array[]): Uint8Array {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** Byte equality of public values; not constant time. */
export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
