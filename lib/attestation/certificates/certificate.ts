/**
 * X.509 certificates (RFC 5280) of the profile that PCK chains use: version 3, P-256 keys, ecdsa-with-SHA256. One reader
 * for everything in them, over exactly the bytes that were signed.
 */
import { bytesEqual } from '../../protocol/encoding.ts';
import {
  type DerValue,
  expectTag,
  readBoolean,
  readChildren,
  readDer,
  readOid,
  readSerial,
  readSmallInteger,
  readTime,
  readWholeBits,
  TAG,
} from '../bytes/der.ts';
import { AttestationError } from '../errors.ts';
import { P256_SPKI_PREFIX, P256Key } from './p256.ts';

/** AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758): no parameters. */
export const ECDSA_WITH_SHA256 = Buffer.from('300a06082a8648ce3d040302', 'hex');

export const OID = {
  commonName: '2.5.4.3',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
} as const;

export interface Certificate {
  /** The whole certificate, DER. */
  readonly raw: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** Content of the serial number INTEGER. */
  readonly serial: Uint8Array;
  /** Encoded names, to be compared byte for byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly commonName: string;
  /** Milliseconds since 1970; both ends are inside. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: P256Key;
  /** DER of r and s. */
  readonly signature: Uint8Array;
  readonly isAuthority: boolean;
  /** How many authorities may follow below this one; undefined when it does not say. */
  readonly pathLength: number | undefined;
  readonly maySignCertificates: boolean;
  readonly maySignCrls: boolean;
  readonly maySignData: boolean;
  /** Content of each extension by OID. */
  readonly extensions: ReadonlyMap<string, Uint8Array>;
}

/** @throws AttestationError DER_ENCODING or CERTIFICATE_FORMAT */
export function parseCertificate(der: Uint8Array): Certificate {
  const { tbs, signature, algorithm, serial, issuer, validity, subject, publicKey, extensionsList } =
    readCertificateFields(der, format);
  requireEcdsa(algorithm);
  const [notBefore, notAfter] = readChildren(expectTag(validity, TAG.sequence));
  // RFC 5280, section 4.2: an unknown critical extension is refused, and so is a repeated one.
  const extensions = readExtensions(extensionsList, [OID.keyUsage, OID.basicConstraints], format);
  const usage = keyUsage(extensions.get(OID.keyUsage));
  const constraints = readBasicConstraints(extensions.get(OID.basicConstraints), format);
  return {
    raw: der,
    tbs: tbs.raw,
    serial: readSerial(serial),
    issuer: expectTag(issuer, TAG.sequence).raw,
    subject: expectTag(subject, TAG.sequence).raw,
    commonName: commonName(expectTag(subject, TAG.sequence)),
    notBefore: readTime(notBefore),
    notAfter: readTime(notAfter),
    publicKey: new P256Key(p256PublicKey(expectTag(publicKey, TAG.sequence))),
    signature: readWholeBits(signature),
    ...constraints,
    maySignCertificates: (usage & 0x04) !== 0,
    maySignCrls: (usage & 0x02) !== 0,
    maySignData: (usage & 0x80) !== 0,
    extensions,
  };
}

/** True when `certificate` is signed by the key of `issuer`. Names are compared by the caller. */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  return issuer.publicKey.verify(certificate.tbs, certificate.signature, 'der');
}

/** Makes the error of the profile that refuses a certificate. */
type Refusal = (message: string) => AttestationError;

/**
 * The fields of any version 3 certificate, not yet read: what every profile of RFC 5280 has in common. Both copies of the
 * signature algorithm are the same.
 */
export function readCertificateFields(der: Uint8Array, refused: Refusal) {
  const [tbs, algorithm, signature, ...more] = readChildren(readDer(der, TAG.sequence));
  const fields = readChildren(expectTag(tbs, TAG.sequence));
  // Exactly these: the unique identifiers of version 2 must not be used (RFC 5280, section 4.1.2.8).
  const [version, serial, innerAlgorithm, issuer, validity, subject, publicKey, extensionsField] = fields;
  if (more.length > 0 || fields.length !== 8)
    throw refused(`expected 8 signed fields, found ${fields.length}`);
  const [number] = readChildren(expectTag(version, TAG.context0));
  if (readSmallInteger(number) !== 2) throw refused('the version is not 3');
  if (!bytesEqual(expectTag(innerAlgorithm, TAG.sequence).raw, expectTag(algorithm, TAG.sequence).raw))
    throw refused('the two signature algorithms differ');
  const [extensionsList, ...lists] = readChildren(expectTag(extensionsField, TAG.context3));
  if (lists.length > 0) throw refused('there is more than one list of extensions');
  return {
    tbs: expectTag(tbs, TAG.sequence),
    algorithm: expectTag(algorithm, TAG.sequence),
    signature,
    serial,
    issuer,
    validity,
    subject,
    publicKey,
    extensionsList,
  };
}

/** @throws AttestationError CERTIFICATE_FORMAT */
export function requireEcdsa(algorithm: DerValue | undefined): void {
  if (!bytesEqual(expectTag(algorithm, TAG.sequence).raw, ECDSA_WITH_SHA256)) {
    throw format('the signature algorithm is not ecdsa-with-SHA256');
  }
}

function p256PublicKey(info: DerValue): Uint8Array {
  const prefix = info.raw.subarray(0, P256_SPKI_PREFIX.length);
  if (!bytesEqual(prefix, P256_SPKI_PREFIX))
    throw format('the public key is not an uncompressed P-256 point');
  return info.raw.subarray(P256_SPKI_PREFIX.length);
}

function commonName(name: DerValue): string {
  const found: string[] = [];
  for (const relative of readChildren(name)) {
    for (const attribute of readChildren(expectTag(relative, TAG.set))) {
      const [type, value] = readChildren(expectTag(attribute, TAG.sequence));
      if (readOid(type) === OID.commonName && value !== undefined)
        found.push(Buffer.from(value.content).toString('latin1'));
    }
  }
  const [only] = found;
  if (only === undefined || found.length !== 1)
    throw format(`expected one common name, found ${found.length}`);
  return only;
}

/**
 * A list of Extension values: content by OID.
 * @param known those that may be critical
 * @param refused makes the error for a malformed, repeated or unknown critical one
 */
export function readExtensions(
  list: DerValue | undefined,
  known: readonly string[],
  refused: Refusal,
): Map<string, Uint8Array> {
  const extensions = new Map<string, Uint8Array>();
  for (const extension of readChildren(expectTag(list, TAG.sequence))) {
    const parts = readChildren(expectTag(extension, TAG.sequence));
    const oid = readOid(parts[0]);
    const critical = parts.length === 3 && readBoolean(parts[1]);
    if (parts.length > 3) throw refused(`extension ${oid} has too many fields`);
    if (extensions.has(oid)) throw refused(`extension ${oid} appears twice`);
    if (critical && !known.includes(oid)) throw refused(`extension ${oid} is critical and unknown`);
    extensions.set(oid, expectTag(parts.at(-1), TAG.octetString).content);
  }
  return extensions;
}

/** RFC 5280, section 4.2.1.9. Without the extension: no authority. */
export function readBasicConstraints(
  extension: Uint8Array | undefined,
  refused: Refusal,
): { isAuthority: boolean; pathLength: number | undefined } {
  if (extension === undefined) return { isAuthority: false, pathLength: undefined };
  const [flag, length, ...more] = readChildren(readDer(extension, TAG.sequence));
  const isAuthority = flag !== undefined && readBoolean(flag);
  // DER leaves out a FALSE; a path length below a non-authority says nothing that could be meant.
  if (more.length > 0 || (flag !== undefined && !isAuthority))
    throw refused('the basic constraints are malformed');
  return { isAuthority, pathLength: length === undefined ? undefined : readSmallInteger(length) };
}

/** The first byte of the key usage bits; none when the extension is missing. */
function keyUsage(extension: Uint8Array | undefined): number {
  if (extension === undefined) return 0;
  return readDer(extension, TAG.bitString).content[1] ?? 0;
}

function format(message: string): AttestationError {
  return new AttestationError('CERTIFICATE_FORMAT', `certificate refused: ${message}`);
}
