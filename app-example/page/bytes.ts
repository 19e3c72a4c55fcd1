/** Bytes as the network writes them. The page checks with its own few lines, so that it needs nothing of the node but what it shows. */

/** @throws Error for anything but so many bytes of lower-case hex, with or without 0x */
export function bytesOf(hex: unknown, length?: number): Uint8Array {
  const digits = typeof hex === 'string' ? hex.replace(/^0x/, '') : '';
  if (!/^([0-9a-f]{2})+$/.test(digits)) throw new Error('a field is no hex');
  if (length !== undefined && digits.length !== 2 * length)
    throw new Error(`a field has not ${length} bytes`);
  return Uint8Array.from(digits.match(/../g)!, (pair) => Number.parseInt(pair, 16));
}

export const hexOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Whether two public values are the same. */
export const same = (one: Uint8Array, other: Uint8Array): boolean => hexOf(one) === hexOf(other);

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A non-negative integer in so many bytes, big-endian. */
export function integer(value: unknown, size: number): Uint8Array {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new Error('a field is no whole number');
  return bytesOf(value.toString(16).padStart(2 * size, '0'), size);
}

/** A list as the network hashes it: the length of each item, 4 bytes big-endian, before it. */
export const list = (...items: readonly Uint8Array[]): Uint8Array =>
  joined(...items.flatMap((item) => [integer(item.length, 4), item]));
