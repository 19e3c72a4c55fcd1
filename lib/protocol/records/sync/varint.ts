/** Numbers of negentropy v1 ("Varint"): base 128, most significant digit first, as few digits as possible; up to 64 bits. */
import { DstackError } from '../../errors.ts';

const MAX_VALUE = (1n << 64n) - 1n;
const MORE = 0x80;

export function encodeVarint(value: number | bigint): Uint8Array {
  let rest = BigInt(value);
  const digits = [Number(rest & 0x7fn)];
  for (rest >>= 7n; rest > 0n; rest >>= 7n) digits.unshift(Number(rest & 0x7fn) | MORE);
  return Uint8Array.from(digits);
}

/**
 * The number at `offset`, and where it ends.
 * @throws SYNC_TRUNCATED; SYNC_VARINT for a second spelling of a number, or one above 64 bits
 */
export function decodeVarint(
  bytes: Uint8Array,
  offset: number,
): { readonly value: bigint; readonly end: number } {
  if (bytes[offset] === MORE) {
    throw new DstackError(
      'SYNC_VARINT',
      'a number begins with a zero digit; write it with as few digits as possible',
    );
  }
  let value = 0n;
  for (let at = offset; at < bytes.length; at++) {
    const byte = bytes[at]!;
    value = (value << 7n) | BigInt(byte & 0x7f);
    if (value > MAX_VALUE) throw new DstackError('SYNC_VARINT', 'a number is above 64 bits');
    if ((byte & MORE) === 0) return { value, end: at + 1 };
  }
  throw new DstackError('SYNC_TRUNCATED', 'the message ends within a number; send the whole');
}
