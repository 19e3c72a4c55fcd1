/** Writes the DER that the simulated platform's certificates need. The reader of evidence does not use it. */
import { TAG } from './der.ts';

/** One value: tag, shortest length, concatenated contents (at most 65,535 bytes). */
export function der(tag: number, ...contents: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents);
  const { length } = content;
  const header =
    length < 0x80
      ? [length]
      : length < 0x100
        ? [0x81, length]
        : [0x82, Math.floor(length / 256), length % 256];
  return new Uint8Array(Buffer.concat([Buffer.from([tag, ...header]), content]));
}

export function derSequence(...items: Uint8Array[]): Uint8Array {
  return der(TAG.sequence, ...items);
}

export function derOid(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(TAG.oid, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

/** A non-negative INTEGER from big-endian bytes. */
export function derInteger(bytes: Uint8Array): Uint8Array {
  const start = bytes.findIndex((byte) => byte !== 0);
  const shortest = start === -1 ? new Uint8Array(1) : bytes.subarray(start);
  return (shortest[0] ?? 0) < 0x80
    ? der(TAG.integer, shortest)
    : der(TAG.integer, new Uint8Array(1), shortest);
}

export function derText(tag: number, text: string): Uint8Array {
  return der(tag, Buffer.from(text, 'latin1'));
}

export function derBoolean(value: boolean): Uint8Array {
  return der(TAG.boolean, Buffer.from([value ? 0xff : 0]));
}

/** A BIT STRING whose last `unused` bits do not count. */
export function derBits(bytes: Uint8Array, unused = 0): Uint8Array {
  return der(TAG.bitString, Buffer.from([unused]), bytes);
}

function base128(arc: number): number[] {
  const digits = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
    digits.unshift((rest % 128) + 0x80);
  }
  return digits;
}
