/**
 * A strict reader of the part of DER (ITU-T X.690) that PCK certificates use: definite lengths in their shortest form, tag
 * numbers below 31. What is not exactly that is refused, so that two parsers can not read one certificate differently.
 * It never recurses: the caller decides what to open.
 */
import { AttestationError } from './errors.ts';

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

export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content. */
  readonly raw: Uint8Array;
}

/** The one value that `bytes` hold. @throws AttestationError DER_ENCODING when there is more, or less, or another tag. */
export function readDer(bytes: Uint8Array, tag: number): DerValue {
  const value = readValue(bytes, 0);
  if (value.raw.length !== bytes.length) {
    throw encoding(`${bytes.length - value.raw.length} bytes follow the value`);
  }
  return expectTag(value, tag);
}

/** The values inside a SEQUENCE, a SET or an explicit tag. */
export function readChildren(parent: DerValue): DerValue[] {
  const children: DerValue[] = [];
  let offset = 0;
  while (offset < parent.content.length) {
    const child = readValue(parent.content, offset);
    children.push(child);
    offset += child.raw.length;
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
  const { content } = expectTag(value, TAG.oid);
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 0x80) throw encoding('an OID arc has a leading zero');
    arc = arc * 128 + (byte & 0x7f);
    if (arc > 0xffffffff) throw encoding('an OID arc is too large');
    fresh = byte < 0x80;
    if (fresh) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first] = arcs;
  if (!fresh || first === undefined) throw encoding('an OID is cut short');
  const root = Math.min(Math.floor(first / 40), 2);
  return [root, first - root * 40, ...arcs.slice(1)].join('.');
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
  const text = Buffer.from(value.content).toString('latin1');
  const digits = value.tag === TAG.utcTime ? 2 : value.tag === TAG.generalizedTime ? 4 : 0;
  const parts = new RegExp(`^(\\d{${digits}})(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)(\\d\\d)Z$`).exec(text);
  if (digits === 0 || parts === null) throw encoding(`not a time: ${JSON.stringify(text.slice(0, 40))}`);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
  const fullYear = digits === 4 ? year : year < 50 ? 2000 + year : 1900 + year;
  const iso = `${String(fullYear).padStart(4, '0')}-${pad(month)}-${pad(day)}T${pad(hour)}:${pad(minute)}:${pad(second)}.000Z`;
  const time = Date.parse(iso);
  // Date.parse takes the 30th of February for the 1st of March: only a date that survives the round trip is one.
  if (Number.isNaN(time) || new Date(time).toISOString() !== iso) throw encoding(`no such time: ${iso}`);
  return time;
}

function pad(part: number): string {
  return String(part).padStart(2, '0');
}

function readValue(bytes: Uint8Array, start: number): DerValue {
  const tag = bytes[start];
  const first = bytes[start + 1];
  if (tag === undefined || first === undefined) throw encoding('a value is cut short');
  if ((tag & 0x1f) === 0x1f) throw encoding('a tag number is above 30');
  let length = first;
  let header = 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 3) throw encoding('a length is indefinite or too large');
    header += count;
    length = 0;
    for (let index = 0; index < count; index++) {
      const byte = bytes[start + 2 + index];
      if (byte === undefined) throw encoding('a length is cut short');
      length = length * 256 + byte;
    }
    if (length < 0x80 || length < 256 ** (count - 1)) throw encoding('a length is not in its shortest form');
  }
  const end = start + header + length;
  if (end > bytes.length) throw encoding('a value ends after its container');
  return { tag, content: bytes.subarray(start + header, end), raw: bytes.subarray(start, end) };
}

function encoding(message: string): AttestationError {
  return new AttestationError('DER_ENCODING', `not strict DER: ${message}`);
}
