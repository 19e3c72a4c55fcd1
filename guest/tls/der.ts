/** Writing DER (ITU-T X.690), as far as a certificate needs it. Nothing here reads any. */
import { utf8 } from '../../lib/protocol/encoding.ts';

/** One element: tag, length in the shortest form, content. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  return new Uint8Array(Buffer.concat([Buffer.from([tag, ...lengthOf(content.length)]), content]));
}

export const sequence = (...parts: readonly Uint8Array[]): Uint8Array => element(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Uint8Array => element(0x31, ...parts);
export const bool = (value: boolean): Uint8Array => element(0x01, Uint8Array.of(value ? 0xff : 0));
export const octets = (content: Uint8Array): Uint8Array => element(0x04, content);
export const text = (value: string): Uint8Array => element(0x0c, utf8(value));
/** Context-specific, constructed (EXPLICIT) or primitive (IMPLICIT). */
export const explicit = (n: number, content: Uint8Array): Uint8Array => element(0xa0 | n, content);
export const implicit = (n: number, content: Uint8Array): Uint8Array => element(0x80 | n, content);

/** A bit string; `unused` trailing bits of the last byte do not count. */
export const bits = (content: Uint8Array, unused = 0): Uint8Array =>
  element(0x03, Uint8Array.of(unused), content);

/** A positive integer from big-endian bytes. */
export function integer(bytes: Uint8Array): Uint8Array {
  const first = bytes.findIndex((byte) => byte !== 0);
  const shortest = first === -1 ? Uint8Array.of(0) : bytes.subarray(first);
  return (shortest[0]! & 0x80) !== 0 ? element(0x02, Uint8Array.of(0), shortest) : element(0x02, shortest);
}

/** An object identifier in dotted form. */
export function oid(dotted: string): Uint8Array {
  const [first, second, ...rest] = dotted.split('.').map(Number);
  return element(0x06, Uint8Array.from([first! * 40 + second!, ...rest.flatMap(base128)]));
}

/** Unix seconds as RFC 5280 wants it: UTCTime until 2049, GeneralizedTime from 2050. */
export function time(seconds: number): Uint8Array {
  const digits = `${new Date(seconds * 1000).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
  return digits < '2050' ? element(0x17, utf8(digits.slice(2))) : element(0x18, utf8(digits));
}

function lengthOf(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return [0x80 | bytes.length, ...bytes];
}

function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >> 7; rest > 0; rest >>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}
