/**
 * Certificates for TLS keys of apps (RFC 5280): each app has an authority of its own, whose key no app has. Its certificate is the same on
 * every node of the network, and carries the chain from its key to the network key, so that whoever has the contract's address
 * can check it; a certificate from it says that the app it is of asked a node for it.
 *
 * A website's browsers have no reason to know such an authority: this is for apps among each other.
 */
import { isIPv4 } from 'node:net';
import { TAG } from '../../lib/attestation/bytes/der.ts';
import {
  der,
  derBits,
  derBoolean,
  derInteger,
  derOid,
  derSequence,
  derText,
} from '../../lib/attestation/bytes/der-writer.ts';
import { ECDSA_WITH_SHA256 } from '../../lib/attestation/certificates/certificate.ts';
import { lengthPrefixed, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { AppCertificateRequest } from '../../lib/protocol/sockets.ts';
import type { KeyManager } from './key-manager.ts';

/** The purpose that the first link of an authority's chain names. An app's own keys have 32 or 33 bytes, never a key of this length. */
export const AUTHORITY_PURPOSE = 'app-ca';
/**
 * An arc of nobody's (X.667), below 2^31: Go's crypto/x509 refuses a whole certificate in which one number of an identifier is
 * larger, as a UUID's would be.
 */
const ARC = '2.25.1862748291';
/** UTF8String: the two links from the authority's SubjectPublicKeyInfo to the network key, in hex, with a dot between. */
export const KEY_CHAIN_OID = `${ARC}.1`;
/** OCTET STRING: a quote over the app's statement with `certificateData` as data. The number is the ecosystem's for quotes. */
export const QUOTE_OID = '1.3.6.1.4.1.62397.1.1';
/** UTF8String: the app and its manifest's hash. */
export const APP_OID = `${ARC}.2`;

const YEAR = 365 * 24 * 3600;
const LONGEST = 10 * YEAR;
const HOUR = 3600;

/** What a quote within a certificate is over, as data of the app: it is for this key and nothing else. */
export const certificateData = (publicKey: Uint8Array): Uint8Array =>
  Uint8Array.from([...utf8(`${RESERVED}app-certificate:`), ...publicKey]);

/** How data of quotes begins that the node makes for an app: no app has data of its own quoted that does. */
const RESERVED = 'dstack/v1/';

/** @throws BAD_DATA */
export function requireUnreserved(data: Uint8Array): void {
  if (Buffer.from(data.subarray(0, RESERVED.length)).toString('latin1') !== RESERVED) return;
  throw new DstackError(
    'BAD_DATA',
    `data that begins with ${RESERVED} is quoted for the node's own statements about an app alone`,
  );
}

/**
 * The certificate of an app's authority, DER.
 * @throws as `KeyManager.appKey`
 */
export function authorityCertificate(keys: KeyManager, app: string): Uint8Array {
  const publicKey = keys.authorityOf(app);
  const links = keys.keyChain(app, AUTHORITY_PURPOSE, publicKey).map(toHex).join('.');
  const name = authorityName(app);
  const body = derSequence(
    VERSION_3,
    serial(publicKey),
    ECDSA_WITH_SHA256,
    name,
    // From before there were networks, without an end (RFC 5280, section 4.1.2.5): it is the same whoever makes it, and whenever.
    derSequence(time(Date.UTC(2025, 0, 1) / 1000), derText(TAG.generalizedTime, '99991231235959Z')),
    name,
    publicKey,
    extensions(
      extension('2.5.29.19', true, derSequence(derBoolean(true), derInteger(Uint8Array.of(0)))),
      extension('2.5.29.15', true, derBits(Uint8Array.of(0x06), 1)),
      extension(KEY_CHAIN_OID, false, derText(TAG.utf8String, links)),
    ),
  );
  return derSequence(body, ECDSA_WITH_SHA256, derBits(keys.signCertificate(app, body)));
}

/**
 * A certificate by an app's authority, DER, for a P-256 key.
 * @param now Unix seconds, by the chain's clock
 * @throws CERTIFICATE_VALIDITY, CERTIFICATE_NAME, and as `KeyManager.appKey`
 */
export function appCertificate(
  keys: KeyManager,
  asked: Omit<AppCertificateRequest, 'publicKey' | 'quoted'>,
  publicKey: Uint8Array,
  quote: Uint8Array | undefined,
  now: number,
): Uint8Array {
  const { app, subject, altNames, serverAuth, clientAuth, named, manifestHash } = asked;
  const notBefore = asked.notBefore ?? now - HOUR;
  const notAfter = asked.notAfter ?? now + YEAR;
  if (notAfter <= notBefore || notAfter > now + LONGEST) {
    throw new DstackError(
      'CERTIFICATE_VALIDITY',
      `a certificate ends after it begins, and within ten years; this one would be from ${notBefore} to ${notAfter}`,
    );
  }
  const usages = [
    ...(serverAuth ? [derOid('1.3.6.1.5.5.7.3.1')] : []),
    ...(clientAuth ? [derOid('1.3.6.1.5.5.7.3.2')] : []),
  ];
  const body = derSequence(
    VERSION_3,
    serial(publicKey, utf8(`${notBefore}`), utf8(JSON.stringify(asked))),
    ECDSA_WITH_SHA256,
    authorityName(app),
    derSequence(time(notBefore), time(notAfter)),
    subject === '' ? derSequence() : derSequence(attribute('2.5.4.3', subject)),
    publicKey,
    extensions(
      extension('2.5.29.19', true, derSequence()),
      extension('2.5.29.15', true, derBits(Uint8Array.of(0x80), 7)),
      ...(usages.length > 0 ? [extension('2.5.29.37', false, derSequence(...usages))] : []),
      ...(altNames.length > 0
        ? [extension('2.5.29.17', subject === '', derSequence(...altNames.map(altName)))]
        : []),
      ...(quote === undefined ? [] : [extension(QUOTE_OID, false, der(TAG.octetString, quote))]),
      ...(named ? [extension(APP_OID, false, derText(TAG.utf8String, `${app} ${manifestHash}`))] : []),
    ),
  );
  return derSequence(body, ECDSA_WITH_SHA256, derBits(keys.signCertificate(app, body)));
}

const VERSION_3 = der(TAG.context0, derInteger(Uint8Array.of(2)));
const attribute = (oid: string, text: string) =>
  der(TAG.set, derSequence(derOid(oid), derText(TAG.utf8String, text)));
const authorityName = (app: string) =>
  derSequence(attribute('2.5.4.10', 'Dstack app'), attribute('2.5.4.3', app));
/** Never zero, and at most 20 bytes (RFC 5280, section 4.1.2.2). */
const serial = (...parts: Uint8Array[]) =>
  derInteger(
    Uint8Array.from([1, ...sha256(lengthPrefixed([utf8('dstack/v1/serial'), ...parts])).subarray(0, 15)]),
  );

function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  return derSequence(derOid(oid), ...(critical ? [derBoolean(true)] : []), der(TAG.octetString, value));
}

const extensions = (...list: Uint8Array[]) => der(TAG.context3, derSequence(...list));

/** UTCTime through 2049, GeneralizedTime from then on (RFC 5280, section 4.1.2.5). */
function time(seconds: number): Uint8Array {
  const digits = `${new Date(seconds * 1000)
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:T]/g, '')}`;
  return Number(digits.slice(0, 4)) < 2050
    ? derText(TAG.utcTime, digits.slice(2))
    : derText(TAG.generalizedTime, digits);
}

const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;
const DOMAIN =
  /^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

function altName(name: string): Uint8Array {
  if (isIPv4(name)) return der(IP_ADDRESS, Uint8Array.from(name.split('.').map(Number)));
  if (DOMAIN.test(name)) return derText(DNS_NAME, name);
  throw new DstackError('CERTIFICATE_NAME', `${name} is neither a name of the DNS nor an IPv4 address`);
}
