/**
 * A strict reader of the part of DER (ITU-T X.690) that PCK certificates use: definite lengths in their shortest form, tag
 * numbers below 31. Everything else is refused, so that no two parsers can read one certificate differently.
 * It never recurses: the caller decides what to open.
 */
import { AttestationError } from '../errors.ts';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  enumerated: 0x0a,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  context0: 0xa0,
  context3: 0xa3,
} as const;

/** One value within the bytes that it was read from; it cuts views out of them only when asked. */
export class DerValue {
  readonly tag: number;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly contentStart: number;
  readonly end: number;

  constructor(bytes: Uint8Array, tag: number, start: number, contentStart: number, end: number) {
    this.bytes = bytes;
    this.tag = tag;
    this.start = start;
    this.contentStart = contentStart;
    this.end = end;
  }

  get content(): Uint8Array {
    return this.bytes.subarray(this.contentStart, this.end);
  }

  /** Tag, length and content. */
  get raw(): Uint8Array {
    return this.bytes.subarray(this.start, this.end);
  }
}

/** The one value that `bytes` hold. @throws AttestationError DER_ENCODING when there is more, or less, or another tag. */
export function readDer(bytes: Uint8Array, tag: number): DerValue {
  const value = readValue(bytes, 0, bytes.length);
  if (value.end !== bytes.length) throw encoding(`${bytes.length - value.end} bytes follow the value`);
  return expectTag(value, tag);
}

/** The values inside a SEQUENCE, a SET or an explicit tag. */
export function readChildren(parent: DerValue): DerValue[] {
  const children: DerValue[] = [];
  let offset = parent.contentStart;
  while (offset < parent.end) {
    const child = readValue(parent.bytes, offset, parent.end);
    children.push(child);
    offset = child.end;
  }
  return children;
}

/** `value` itself when it is there and has this tag. */
export function expectTag(value: DerValue | undefined, tag: number): DerValue {
  if (value === undefined) throw encoding(`a value with tag 0x${tag.toString(16)} is missing`);
  if (value.tag !== tag) {
    throw encoding(`expected tag 0x${tag.toString(16)}, found 0x${value.tag.toString(16)}`);
  }
  return value;
}

/** An OBJECT IDENTIFIER in dotted form. */
export function readOid(value: DerValue | undefined): string {
  const { bytes, contentStart, end } = expectTag(value, TAG.oid);
  let text = '';
  let arc = 0;
  let fresh = true;
  for (let index = contentStart; index < end; index++) {
    const byte = bytes[index] ?? 0;
    if (fresh && byte === 0x80) throw encoding('an OID arc has a leading zero');
    arc = arc * 128 + (byte & 0x7f);
    if (arc > 0xffffffff) throw encoding('an OID arc is too large');
    fresh = byte < 0x80;
    if (!fresh) continue;
    // The first number holds two arcs.
    const root = Math.min(Math.floor(arc / 40), 2);
    text = text === '' ? `${root}.${arc - root * 40}` : `${text}.${arc}`;
    arc = 0;
  }
  if (!fresh || text === '') throw encoding('an OID is cut short');
  return text;
}

/** A non-negative INTEGER or ENUMERATED of at most six bytes. */
export function readSmallInteger(value: DerValue | undefined, tag: number = TAG.integer): number {
  const { content } = expectTag(value, tag);
  const [first, second] = content;
  const padded = first === 0 && second !== undefined && second < 0x80;
  if (first === undefined || first >= 0x80 || padded || content.length > 6) {
    throw encoding('an integer is negative, too large or not in its shortest form');
  }
  return content.reduce((sum, byte) => sum * 256 + byte, 0);
}

/** A positive INTEGER in its shortest form, as its content: what certificates and CRLs use as a serial number. */
export function readSerial(value: DerValue | undefined): Uint8Array {
  const { content } = expectTag(value, TAG.integer);
  const [first, second] = content;
  const padded = first === 0 && (second === undefined || second < 0x80);
  if (first === undefined || first >= 0x80 || padded || content.length > 21) {
    throw encoding('a serial number is not a positive integer of at most 20 bytes in its shortest form');
  }
  return content;
}

/** A BIT STRING whose bits all count. */
export function readWholeBits(value: DerValue | undefined): Uint8Array {
  const { content } = expectTag(value, TAG.bitString);
  if (content[0] !== 0) throw encoding('a signature is not a whole number of bytes');
  return content.subarray(1);
}

/** A BOOLEAN: 0x00 or 0xff. */
export function readBoolean(value: DerValue | undefined): boolean {
  const { content } = expectTag(value, TAG.boolean);
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
    throw encoding('a BOOLEAN is neither 00 nor ff');
  return content[0] === 0xff;
}

/** UTCTime or GeneralizedTime in the form that RFC 5280, section 4.1.2.5, prescribes, as milliseconds since 1970. */
export function readTime(value: DerValue | undefined): number {
  if (value === undefined) throw encoding('a time is missing');
  const { bytes, contentStart, end, tag } = value;
  const digits = tag === TAG.utcTime ? 2 : tag === TAG.generalizedTime ? 4 : 0;
  const two = (offset: number): number => {
    const tens = (bytes[contentStart + offset] ?? 0) - 0x30;
    const ones = (bytes[contentStart + offset + 1] ?? 0) - 0x30;
    return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? 10 * tens + ones : Number.NaN;
  };
  const short = two(digits - 2);
  const year = digits === 4 ? 100 * two(0) + short : short < 50 ? 2000 + short : 1900 + short;
  const [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map((offset) => two(digits + offset)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const time = Date.UTC(year, month - 1, day, hour, minute, second);
  const date = new Date(time);
  // Date.UTC takes the 30th of February for the 1st of March, and second 60 for the next minute: what comes out must be
  // what went in. A character that is not a digit makes the whole value NaN.
  const same =
    date.getUTCFullYear() === year &&
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  if (digits === 0 || end - contentStart !== digits + 11 || bytes[end - 1] !== 0x5a || !same) {
    throw encoding(
      `no such time: ${JSON.stringify(Buffer.from(value.content).toString('latin1').slice(0, 40))}`,
    );
  }
  return time;
}

/** The value at `start`, which must end by `limit`. */
export function readValue(bytes: Uint8Array, start: number, limit: number): DerValue {
  const tag = bytes[start];
  const first = bytes[start + 1];
  if (tag === undefined || first === undefined || start + 2 > limit) throw encoding('a value is cut short');
  if ((tag & 0x1f) === 0x1f) throw encoding('a tag number is above 30');
  let length = first;
  let contentStart = start + 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 3) throw encoding('a length is indefinite or too large');
    contentStart += count;
    if (contentStart > limit) throw encoding('a length is cut short');
    length = 0;
    for (let index = contentStart - count; index < contentStart; index++) {
      length = length * 256 + (bytes[index] ?? 0);
    }
    if (length < 0x80 || length < 256 ** (count - 1)) throw encoding('a length is not in its shortest form');
  }
  const end = contentStart + length;
  if (end > limit) throw encoding('a value ends after its container');
  return new DerValue(bytes, tag, start, contentStart, end);
}

function encoding(message: string): AttestationError {
  return new AttestationError('DER_ENCODING', `not strict DER: ${message}`);
}
