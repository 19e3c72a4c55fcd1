/**
 * Certificate revocation lists (RFC 5280, section 5) of Intel's profile: version 2, ecdsa-with-SHA256, full lists only.
 * Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.4.
 */
import { bytesEqual, toHex } from '../../protocol/encoding.ts';
import {
  type DerValue,
  expectTag,
  readChildren,
  readDer,
  readSerial,
  readSmallInteger,
  readTime,
  readValue,
  readWholeBits,
  TAG,
} from '../bytes/der.ts';
import { AttestationError, type CrlName } from '../errors.ts';
import { type Certificate, readExtensions, requireEcdsa } from './certificate.ts';

/** A list of 20,000 revoked certificates; Intel's have a hundred. */
export const MAX_CRL_BYTES = 1_048_576;

export interface RevocationList {
  readonly name: CrlName;
  /** Encoded name. */
  readonly issuer: Uint8Array;
  /** Milliseconds since 1970; both ends are inside. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers: hex of the INTEGER's content. */
  readonly revoked: ReadonlySet<string>;
}

const CRL_NUMBER = '2.5.29.20';
const AUTHORITY_KEY = '2.5.29.35';
const REASON = '2.5.29.21';

/**
 * The list, when `issuer` may sign lists and signed this one.
 * @throws AttestationError `${name}_FORMAT`, `_ISSUER`, `_SIGNATURE`, or DER_ENCODING
 */
export function readCrl(der: Uint8Array, issuer: Certificate, name: CrlName): RevocationList {
  const refused = (message: string) => new AttestationError(`${name}_FORMAT`, `CRL refused: ${message}`);
  if (der.length > MAX_CRL_BYTES) throw refused(`it has ${der.length} bytes, more than ${MAX_CRL_BYTES}`);
  const [tbs, algorithm, signature, ...more] = readChildren(readDer(der, TAG.sequence));
  const [version, innerAlgorithm, issuerName, thisUpdate, nextUpdate, ...rest] = readChildren(
    expectTag(tbs, TAG.sequence),
  );
  if (more.length > 0 || readSmallInteger(version) !== 1) throw refused('it is not of version 2');
  requireEcdsa(algorithm);
  requireEcdsa(innerAlgorithm);
  const revoked = rest[0]?.tag === TAG.sequence ? rest.shift() : undefined;
  const [extensions, ...tail] = readChildren(expectTag(rest.shift(), TAG.context0));
  if (rest.length > 0 || tail.length > 0) throw refused('it has fields that no CRL has');
  // Delta lists and lists of limited scope have a critical extension that says so; neither is supported.
  if (!readExtensions(extensions, [CRL_NUMBER, AUTHORITY_KEY], refused).has(CRL_NUMBER)) {
    throw refused('it has no number');
  }
  const list: RevocationList = {
    name,
    issuer: expectTag(issuerName, TAG.sequence).raw,
    thisUpdate: readTime(thisUpdate),
    nextUpdate: readTime(nextUpdate),
    revoked: revoked === undefined ? new Set() : readEntries(revoked, refused),
  };
  if (!issuer.maySignCrls || !bytesEqual(list.issuer, issuer.subject)) {
    throw new AttestationError(`${name}_ISSUER`, `the CRL is not of ${issuer.commonName}`);
  }
  if (!issuer.publicKey.verify(expectTag(tbs, TAG.sequence).raw, readWholeBits(signature), 'der')) {
    throw new AttestationError(`${name}_SIGNATURE`, `the CRL is not signed by ${issuer.commonName}`);
  }
  return list;
}

/** The serial numbers. Most entries differ in nothing else, so what follows the number is read again only when it changed. */
function readEntries(list: DerValue, refused: (message: string) => AttestationError): Set<string> {
  const { bytes } = list;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const revoked = new Set<string>();
  let checked: { start: number; end: number } | undefined;
  for (let offset = list.contentStart; offset < list.end; ) {
    const entry = expectTag(readValue(bytes, offset, list.end), TAG.sequence);
    const serial = readValue(bytes, entry.contentStart, entry.end);
    readSerial(serial);
    revoked.add(buffer.toString('hex', serial.contentStart, serial.end));
    if (
      checked === undefined ||
      buffer.compare(buffer, checked.start, checked.end, serial.end, entry.end) !== 0
    ) {
      checkTail(entry, refused);
      checked = { start: serial.end, end: entry.end };
    }
    offset = entry.end;
  }
  return revoked;
}

function checkTail(entry: DerValue, refused: (message: string) => AttestationError): void {
  const [, date, extensions, ...more] = readChildren(entry);
  if (more.length > 0) throw refused('an entry has too many fields');
  readTime(date);
  // A certificate issuer other than the list's would be a critical extension here.
  if (extensions !== undefined) readExtensions(extensions, [REASON], refused);
}

/** @throws AttestationError `${name}_NOT_YET` or `${name}_EXPIRED` */
export function requireCurrentCrl(list: RevocationList, now: number, skewMs: number): void {
  if (now + skewMs < list.thisUpdate) {
    throw new AttestationError(
      `${list.name}_NOT_YET`,
      `the CRL is of ${iso(list.thisUpdate)}, after ${iso(now)}`,
    );
  }
  if (now - skewMs > list.nextUpdate) {
    throw new AttestationError(
      `${list.name}_EXPIRED`,
      `the CRL was to be renewed by ${iso(list.nextUpdate)}, before ${iso(now)}`,
    );
  }
}

export function isRevoked(certificate: Certificate, list: RevocationList): boolean {
  return list.revoked.has(toHex(certificate.serial));
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
