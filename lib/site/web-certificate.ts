/**
 * X.509 certificates (RFC 5280) as public authorities issue them for websites, read strictly: DER in its one form, version 3,
 * no extension twice, no critical one that is not understood here; signatures by SHA-2 and RSA or ECDSA keys of a decent size.
 *
 * The reader is the one of the attestation, and never leaves JavaScript; OpenSSL sees a key and the signed bytes alone.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import {
  expectTag,
  readChildren,
  readDer,
  readOid,
  readTime,
  readWholeBits,
  TAG,
} from '../attestation/bytes/der.ts';
import {
  readBasicConstraints,
  readCertificateFields,
  readExtensions,
} from '../attestation/certificates/certificate.ts';
import { AttestationError } from '../attestation/errors.ts';

const OID = {
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  certificatePolicies: '2.5.29.32',
  extendedKeyUsage: '2.5.29.37',
} as const;
/** Those that may be critical: what they say is checked, or (policies) no policy is asked for. */
export const UNDERSTOOD = [
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.certificatePolicies,
  OID.extendedKeyUsage,
];
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const ANY_PURPOSE = '2.5.29.37.0';

/** Signature algorithms by the content of their AlgorithmIdentifier (RFC 5758, RFC 4055). */
const ALGORITHMS: ReadonlyMap<string, { key: 'ec' | 'rsa'; hash: string }> = new Map([
  ['06082a8648ce3d040302', { key: 'ec', hash: 'sha256' }],
  ['06082a8648ce3d040303', { key: 'ec', hash: 'sha384' }],
  ['06082a8648ce3d040304', { key: 'ec', hash: 'sha512' }],
  ['06092a864886f70d01010b0500', { key: 'rsa', hash: 'sha256' }],
  ['06092a864886f70d01010c0500', { key: 'rsa', hash: 'sha384' }],
  ['06092a864886f70d01010d0500', { key: 'rsa', hash: 'sha512' }],
]);
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
/** Tag of a dNSName within GeneralNames: context-specific 2, an IA5String. */
const DNS_NAME = 0x82;

export interface WebCertificate {
  /** The whole certificate, DER. */
  readonly raw: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** Content of the serial number INTEGER. */
  readonly serial: Uint8Array;
  /** Encoded names, to be compared byte for byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** Unix seconds; both ends are inside. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  /** Undefined for one that is not taken here: a root's own signature counts for nothing. */
  readonly algorithm: { readonly key: 'ec' | 'rsa'; readonly hash: string } | undefined;
  readonly signature: Uint8Array;
  readonly isAuthority: boolean;
  /** How many authorities may follow below this one; undefined when it does not say. */
  readonly pathLength: number | undefined;
  /** Undefined without the extension: then every use is fine. */
  readonly usage: { readonly signsData: boolean; readonly signsCertificates: boolean } | undefined;
  /** Whether the extension lets it be for web servers; undefined without the extension. */
  readonly forServers: boolean | undefined;
  readonly constrainsNames: boolean;
  /** dNSNames of the subjectAltName, in lower case. */
  readonly dnsNames: readonly string[];
}

/** @throws AttestationError DER_ENCODING or CERTIFICATE_FORMAT */
export function parseWebCertificate(der: Uint8Array): WebCertificate {
  const { tbs, signature, algorithm, serial, issuer, validity, subject, publicKey, extensionsList } =
    readCertificateFields(der, format);
  const [notBefore, notAfter, ...times] = readChildren(expectTag(validity, TAG.sequence));
  if (times.length > 0) throw format('the validity has more than two times');
  const extensions = readExtensions(extensionsList, UNDERSTOOD, format);
  return {
    raw: der,
    tbs: tbs.raw,
    serial: expectTag(serial, TAG.integer).content,
    issuer: expectTag(issuer, TAG.sequence).raw,
    subject: expectTag(subject, TAG.sequence).raw,
    notBefore: readTime(notBefore) / 1000,
    notAfter: readTime(notAfter) / 1000,
    publicKey: expectTag(publicKey, TAG.sequence).raw,
    algorithm: ALGORITHMS.get(Buffer.from(algorithm.content).toString('hex')),
    signature: readWholeBits(signature),
    ...readBasicConstraints(extensions.get(OID.basicConstraints), format),
    usage: keyUsage(extensions.get(OID.keyUsage)),
    forServers: purposes(extensions.get(OID.extendedKeyUsage)),
    constrainsNames: extensions.has(OID.nameConstraints),
    dnsNames: dnsNames(extensions.get(OID.subjectAltName)),
  };
}

/** True when `certificate` is signed by the key of `issuer`, a key that is good enough. Names are compared by the caller. */
export function isSignedByKey(
  certificate: WebCertificate,
  issuer: Pick<WebCertificate, 'publicKey'>,
): boolean {
  if (certificate.algorithm === undefined) return false;
  const { key: kind, hash } = certificate.algorithm;
  try {
    const key = createPublicKey({ key: Buffer.from(issuer.publicKey), format: 'der', type: 'spki' });
    return isDecent(key, kind) && verify(hash, certificate.tbs, key, certificate.signature);
  } catch {
    return false;
  }
}

function isDecent({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject, kind: 'ec' | 'rsa'): boolean {
  const { modulusLength = 0, namedCurve = '' } = asymmetricKeyDetails ?? {};
  if (asymmetricKeyType !== kind) return false;
  return kind === 'ec'
    ? CURVES.includes(namedCurve)
    : modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS;
}

/** RFC 5280, section 4.2.1.3: bit 0 digitalSignature, bit 5 keyCertSign. */
function keyUsage(extension: Uint8Array | undefined): WebCertificate['usage'] {
  if (extension === undefined) return undefined;
  const [unused, first = 0] = readDer(extension, TAG.bitString).content;
  if (unused === undefined || unused > 7) throw format('the key usage is malformed');
  return { signsData: (first & 0x80) !== 0, signsCertificates: (first & 0x04) !== 0 };
}

function purposes(extension: Uint8Array | undefined): boolean | undefined {
  if (extension === undefined) return undefined;
  const oids = readChildren(readDer(extension, TAG.sequence)).map(readOid);
  return oids.includes(SERVER_AUTH) || oids.includes(ANY_PURPOSE);
}

function dnsNames(extension: Uint8Array | undefined): string[] {
  if (extension === undefined) return [];
  return readChildren(readDer(extension, TAG.sequence))
    .filter(({ tag }) => tag === DNS_NAME)
    .map(({ content }) => Buffer.from(content).toString('latin1').toLowerCase());
}

const format = (message: string): AttestationError => new AttestationError('CERTIFICATE_FORMAT', message);
