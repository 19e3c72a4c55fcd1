/**
 * What the records say that nodes themselves read: certificates, revocations and commentary. Their values are of fixed size, so each
 * has one spelling. Integers are big-endian.
 */
import { uint64 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ID_BYTES, MAX_TIMESTAMP } from './format.ts';
import { PUBLIC_KEY_BYTES } from './strict-ed25519.ts';

/** An authority's word that an owner may write: the value of a record that the authority owns. */
export interface Certificate {
  /** The owner that is certified. */
  readonly subject: Uint8Array;
  /** The authority's own number for it, by which it is revoked. */
  readonly serial: bigint;
  /** Milliseconds since 1970: the timestamps that its subject's records may have, both included. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** Opinions about another record that oracles give. */
const OPINIONS = { suspect: 1 } as const;
export type Opinion = keyof typeof OPINIONS;

export interface Commentary {
  readonly subject: Uint8Array;
  readonly opinion: Opinion;
}

/** 52 bytes. @throws RECORD_CERTIFICATE, ENCODING_RANGE */
export function encodeCertificate(certificate: Certificate): Uint8Array {
  requirePeriod(certificate);
  const { subject, serial, notBefore, notAfter } = certificate;
  if (subject.length !== PUBLIC_KEY_BYTES) {
    throw new DstackError(
      'RECORD_CERTIFICATE',
      `an owner has ${PUBLIC_KEY_BYTES} bytes, not ${subject.length}`,
    );
  }
  const period = Buffer.alloc(12);
  period.writeUIntBE(notBefore, 0, 6);
  period.writeUIntBE(notAfter, 6, 6);
  return new Uint8Array(Buffer.concat([subject, uint64(serial), period]));
}

/** @throws RECORD_CERTIFICATE */
export function decodeCertificate(value: Uint8Array): Certificate {
  const reader = sized(value, PUBLIC_KEY_BYTES + 8 + 12, 'RECORD_CERTIFICATE', 'a certificate');
  const certificate = {
    subject: reader.take(PUBLIC_KEY_BYTES, 'the subject'),
    serial: reader.uint64('the serial number'),
    notBefore: reader.uint48('its beginning'),
    notAfter: reader.uint48('its end'),
  };
  requirePeriod(certificate);
  return certificate;
}

/** 8 bytes: the serial number that the same authority gave. @throws ENCODING_RANGE */
export function encodeRevocation(serial: bigint): Uint8Array {
  return uint64(serial);
}

/** @throws RECORD_REVOCATION */
export function decodeRevocation(value: Uint8Array): bigint {
  return sized(value, 8, 'RECORD_REVOCATION', 'a revocation').uint64('the serial number');
}

/** 33 bytes. @throws RECORD_COMMENTARY */
export function encodeCommentary({ subject, opinion }: Commentary): Uint8Array {
  if (subject.length !== ID_BYTES) {
    throw new DstackError(
      'RECORD_COMMENTARY',
      `a record is named by ${ID_BYTES} bytes, not ${subject.length}`,
    );
  }
  return Uint8Array.from([...subject, OPINIONS[opinion]]);
}

/** @throws RECORD_COMMENTARY */
export function decodeCommentary(value: Uint8Array): Commentary {
  const reader = sized(value, ID_BYTES + 1, 'RECORD_COMMENTARY', 'a commentary');
  const subject = reader.take(ID_BYTES, 'the subject');
  if (reader.byte('the opinion') !== OPINIONS.suspect) {
    throw new DstackError('RECORD_COMMENTARY', 'the opinion is none that is known here');
  }
  return { subject, opinion: 'suspect' };
}

function sized(value: Uint8Array, length: number, code: string, what: string): ByteReader {
  if (value.length === length) return new ByteReader(value);
  throw new DstackError(code, `${what} has ${length} bytes, not ${value.length}`);
}

function requirePeriod({ notBefore, notAfter }: Certificate): void {
  const isTime = (time: number): boolean => Number.isInteger(time) && time >= 0 && time <= MAX_TIMESTAMP;
  if (isTime(notBefore) && isTime(notAfter) && notBefore <= notAfter) return;
  throw new DstackError(
    'RECORD_CERTIFICATE',
    `${notBefore} to ${notAfter} is no period; it begins before it ends`,
  );
}
