/**
 * The simulated platform's certificates, in the form of Intel's. Everything here is a function of published constants, so
 * that every machine makes the same bytes; anyone may forge a simulated quote, and the names say what it is.
 *
 * Host and tests only: it signs, and a guest needs no more of it than the root certificate in trust-roots.ts.
 */
import { p256 } from '@noble/curves/nist.js';
import { sha256, utf8 } from '../../protocol/encoding.ts';
import { TAG } from '../bytes/der.ts';
import { der, derBits, derBoolean, derInteger, derOid, derSequence, derText } from '../bytes/der-writer.ts';
import { ECDSA_WITH_SHA256, OID } from '../certificates/certificate.ts';
import { P256_SPKI_PREFIX } from '../certificates/p256.ts';
import { SGX_EXTENSION_OID, type SgxExtension } from '../certificates/sgx-extension.ts';
import { SIMULATED_ROLES } from './roles.ts';

/** Signs like the real platform does: P-256, SHA-256; RFC 6979 nonces, so that the same statement has one signature. */
export interface SimulatedKey {
  /** x ‖ y, 64 bytes. */
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array, form: 'r-s' | 'der'): Uint8Array;
}

/** The key of a published label. There is no secret in it. */
export function simulatedKey(...label: Uint8Array[]): SimulatedKey {
  const secret = sha256(utf8('dstack/v1/simulated-key'), ...label);
  const publicKey = p256.getPublicKey(secret, false).subarray(1);
  return {
    publicKey,
    sign: (message, form) =>
      p256.sign(message, secret, { format: form === 'der' ? 'der' : 'compact', lowS: false }),
  };
}

/** PEM chains list leaf, intermediate, root; this is the part that all simulated platforms share. */
export function simulatedAuthorities() {
  const rootKey = simulatedKey(utf8('root'));
  const intermediateKey = simulatedKey(utf8('platform-ca'));
  const root = issue({
    subject: SIMULATED_ROLES.root,
    publicKey: rootKey.publicKey,
    issuer: SIMULATED_ROLES.root,
    issuerKey: rootKey,
    extensions: authorityExtensions(1),
  });
  const intermediate = issue({
    subject: SIMULATED_PLATFORM_CA,
    publicKey: intermediateKey.publicKey,
    issuer: SIMULATED_ROLES.root,
    issuerKey: rootKey,
    extensions: authorityExtensions(0),
  });
  return { root, rootKey, intermediate, intermediateKey };
}

/** The PCK certificate of one simulated platform, DER. */
export function simulatedPckCertificate(
  publicKey: Uint8Array,
  sgx: SgxExtension,
  issuerKey: SimulatedKey,
): Uint8Array {
  return issue({
    subject: SIMULATED_ROLES.leaf,
    publicKey,
    issuer: SIMULATED_PLATFORM_CA,
    issuerKey,
    extensions: pckExtensions(sgx),
  });
}

export const SIMULATED_PLATFORM_CA = 'Dstack Simulated PCK Platform CA';

/** What goes into one certificate. */
export interface Issue {
  /** Common names. */
  readonly subject: string;
  readonly issuer: string;
  readonly publicKey: Uint8Array;
  readonly issuerKey: SimulatedKey;
  /** Encoded Extension values. */
  readonly extensions: readonly Uint8Array[];
  /** UTCTime texts, YYMMDDHHMMSSZ; when missing, 2020 to 2049. */
  readonly validity?: readonly [string, string];
}

/** Signs one certificate of the PCK profile, DER. */
export function issue(request: Issue): Uint8Array {
  const [notBefore, notAfter] = request.validity ?? SIMULATED_VALIDITY;
  const tbs = derSequence(
    der(TAG.context0, derInteger(Buffer.from([2]))),
    derInteger(serialOf(request.subject, request.publicKey)),
    ECDSA_WITH_SHA256,
    name(request.issuer),
    derSequence(derText(TAG.utcTime, notBefore), derText(TAG.utcTime, notAfter)),
    name(request.subject),
    Buffer.concat([P256_SPKI_PREFIX, request.publicKey]),
    der(TAG.context3, derSequence(...request.extensions)),
  );
  return derSequence(tbs, ECDSA_WITH_SHA256, derBits(request.issuerKey.sign(tbs, 'der')));
}

/** The serial number of the certificate that `issue` makes for this subject and key. */
export function serialOf(subject: string, publicKey: Uint8Array): Uint8Array {
  return sha256(utf8(subject), publicKey).subarray(0, 16);
}

/** What goes into one CRL. */
export interface CrlIssue {
  /** Common name. */
  readonly issuer: string;
  readonly issuerKey: SimulatedKey;
  /** Serial numbers, big-endian. */
  readonly revoked?: readonly Uint8Array[];
  /** UTCTime texts, YYMMDDHHMMSSZ; when missing, 2020 to 2049. */
  readonly validity?: readonly [string, string];
  /** Encoded Extension values in place of the usual CRL number. */
  readonly extensions?: readonly Uint8Array[];
}

/** Signs one CRL of Intel's profile, DER. */
export function issueCrl(request: CrlIssue): Uint8Array {
  const [thisUpdate, nextUpdate] = request.validity ?? SIMULATED_VALIDITY;
  const entries = (request.revoked ?? []).map((serial) =>
    derSequence(
      derInteger(serial),
      derText(TAG.utcTime, thisUpdate),
      derSequence(extension('2.5.29.21', false, der(TAG.enumerated, Buffer.from([1])))),
    ),
  );
  const tbs = derSequence(
    derInteger(Buffer.from([1])),
    ECDSA_WITH_SHA256,
    name(request.issuer),
    derText(TAG.utcTime, thisUpdate),
    derText(TAG.utcTime, nextUpdate),
    ...(entries.length === 0 ? [] : [derSequence(...entries)]),
    der(
      TAG.context0,
      derSequence(...(request.extensions ?? [extension('2.5.29.20', false, derInteger(Buffer.from([1])))])),
    ),
  );
  return derSequence(tbs, ECDSA_WITH_SHA256, derBits(request.issuerKey.sign(tbs, 'der')));
}

const SIMULATED_VALIDITY: readonly [string, string] = ['200101000000Z', '491231235959Z'];

/** keyUsage and basicConstraints of a certificate that signs data: what a TCB signer has. */
export function signerExtensions(): Uint8Array[] {
  return [
    // digitalSignature and nonRepudiation, as in Intel's
    extension(OID.keyUsage, true, derBits(Buffer.from([0xc0]), 6)),
    extension(OID.basicConstraints, true, derSequence()),
  ];
}

/** keyUsage and basicConstraints of a certificate authority. */
export function authorityExtensions(pathLength: number): Uint8Array[] {
  return [
    // keyCertSign and cRLSign
    extension(OID.keyUsage, true, derBits(Buffer.from([0x06]), 1)),
    extension(
      OID.basicConstraints,
      true,
      derSequence(derBoolean(true), derInteger(Buffer.from([pathLength]))),
    ),
  ];
}

/** keyUsage, basicConstraints and SGX extension of a PCK certificate. */
export function pckExtensions(sgx: SgxExtension): Uint8Array[] {
  return [...signerExtensions(), extension(SGX_EXTENSION_OID, false, sgxExtension(sgx))];
}

/** One Extension of RFC 5280: `value` is the DER inside its OCTET STRING. */
export function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [derBoolean(true)] : [];
  return derSequence(derOid(oid), ...flag, der(TAG.octetString, value));
}

function name(common: string): Uint8Array {
  const attribute = (oid: string, text: string) =>
    der(TAG.set, derSequence(derOid(oid), derText(TAG.utf8String, text)));
  return derSequence(attribute(OID.commonName, common), attribute('2.5.4.10', 'Not Intel: simulation only'));
}

function sgxExtension(sgx: SgxExtension): Uint8Array {
  const pair = (suffix: string, value: Uint8Array) =>
    derSequence(derOid(`${SGX_EXTENSION_OID}.${suffix}`), value);
  const number = (value: number) => derInteger(Buffer.from([value >> 8, value & 0xff]));
  return derSequence(
    pair('1', der(TAG.octetString, sgx.ppid)),
    pair(
      '2',
      derSequence(
        ...sgx.components.map((component, index) => pair(`2.${index + 1}`, number(component))),
        pair('2.17', number(sgx.pceSvn)),
        pair('2.18', der(TAG.octetString, sgx.cpuSvn)),
      ),
    ),
    pair('3', der(TAG.octetString, sgx.pceId)),
    pair('4', der(TAG.octetString, sgx.fmspc)),
    pair('5', der(TAG.enumerated, Buffer.from([sgx.sgxType]))),
  );
}
