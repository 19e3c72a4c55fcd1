/**
 * Certificates of a store on a laptop: an authority that is made once, a certificate of the service, and one for each user that is asked
 * for. Whoever has a user's certificate may do what the owner may.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { existsSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, type TlsOptions } from 'node:tls';
import { TAG } from '../../../lib/attestation/bytes/der.ts';
import {
  der,
  derBits,
  derBoolean,
  derInteger,
  derOid,
  derSequence,
  derText,
} from '../../../lib/attestation/bytes/der-writer.ts';
import { encodePem } from '../../../lib/attestation/bytes/pem.ts';
import { ECDSA_WITH_SHA256 } from '../../../lib/attestation/certificates/certificate.ts';
import { readBounded } from '../../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../../lib/daemon/folder.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { isEverywhere } from './options.ts';

const DAY = 24 * 3600 * 1000;
const YEARS = 3 * 365 * DAY;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** A chain, or a key. */
const MAX_PEM_BYTES = 1024 * 1024;

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface DevCertificates {
  /** Of the authority, for clients to trust. */
  readonly authority: string;
  readonly service: CertificateFiles;
  readonly user: CertificateFiles;
}

/** What a service that listens at `host` is reached by: by every address of the machine, if it listens everywhere. */
export function namesOf(host: string): readonly string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((found) => found ?? [])
    // Those of one link are written with the name of an interface, which is another on each machine.
    .filter(({ scopeid }) => scopeid === undefined || scopeid === 0)
    .map(({ address }) => address);
  return [...new Set(['localhost', '127.0.0.1', ...(isEverywhere(host) ? addresses : [host])])];
}

/** @throws KV_CERTIFICATE, FILE_KIND, FILE_TOO_LARGE, the file system's own errors */
export function serviceTls(service: CertificateFiles, authority: string): TlsOptions {
  const [cert, key] = [pem(service.certificate), pem(service.key)];
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    const files = `${service.certificate} with ${service.key}`;
    throw new DstackError(
      'KV_CERTIFICATE',
      `${files} is not a certificate in PEM with its key: ${(error as Error).message}`,
    );
  }
  return { cert, key, ca: pem(authority), requestCert: true, rejectUnauthorized: true };
}

const pem = (path: string): Buffer => readBounded(path, { maxBytes: MAX_PEM_BYTES });

/** Makes what is missing in `folder`. The names are those that the service is reached by. @throws KV_CERTIFICATE */
export function devCertificates(folder: string, names: readonly string[], user = 'user0'): DevCertificates {
  makeFolder(folder, 0o700);
  const files = (name: string): CertificateFiles => ({
    certificate: join(folder, `${name}_cert.pem`),
    key: join(folder, `${name}_privk.pem`),
  });
  const authority = files('authority');
  if (!isCurrent(authority))
    write(authority, { subject: 'a store on a laptop', extensions: [basicConstraints(), keyUsage(0x06)] });
  const issuer = issuerAt(authority);
  const service = files('service');
  if (!isCurrent(service, issuer, names))
    write(service, { subject: 'kv', issuer, extensions: [...leaf(SERVER_AUTH), alternativeNames(names)] });
  const users = files(user);
  if (!isCurrent(users, issuer)) write(users, { subject: user, issuer, extensions: leaf(CLIENT_AUTH) });
  return { authority: authority.certificate, service, user: users };
}

interface Issuer {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

/** @throws KV_CERTIFICATE for files that somebody has changed: what is made anew is another authority, which no client trusts */
function issuerAt({ certificate, key }: CertificateFiles): Issuer {
  try {
    const found = { certificate: new X509Certificate(pem(certificate)), key: createPrivateKey(pem(key)) };
    if (found.certificate.checkPrivateKey(found.key)) return found;
  } catch (error) {
    if (error instanceof DstackError) throw error;
  }
  throw new DstackError(
    'KV_CERTIFICATE',
    `${certificate} is not a certificate in PEM whose key is ${key}: put back what they were, or remove both, and they are made anew`,
  );
}

/** Whether it is there, by this issuer, for these names, and for a month yet. */
function isCurrent(
  { certificate, key }: CertificateFiles,
  issuer?: Issuer,
  names: readonly string[] = [],
): boolean {
  if (!existsSync(certificate) || !existsSync(key)) return false;
  const { certificate: found } = issuerAt({ certificate, key });
  return (
    found.verify(issuer === undefined ? found.publicKey : issuer.certificate.publicKey) &&
    found.validToDate.getTime() > Date.now() + 30 * DAY &&
    names.every((name) => (isIP(name) ? found.checkIP(name) : found.checkHost(name)) !== undefined)
  );
}

interface Form {
  readonly subject: string;
  /** Itself, without one. */
  readonly issuer?: Issuer;
  readonly extensions: readonly Uint8Array[];
}

function write(files: CertificateFiles, { subject, issuer, extensions }: Form): void {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const body = derSequence(
    der(TAG.context0, derInteger(Uint8Array.of(2))),
    derInteger(randomBytes(16)),
    ECDSA_WITH_SHA256,
    nameOf(issuer?.certificate.subject.replace(/^CN=/, '') ?? subject),
    derSequence(time(Date.now() - DAY), time(Date.now() + YEARS)),
    nameOf(subject),
    createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    der(TAG.context3, derSequence(...extensions)),
  );
  const signature = sign('sha256', body, issuer?.key ?? privateKey);
  const key = privateKey.export({ format: 'pem', type: 'pkcs8' });
  writeDurably(files.key, key, 0o600);
  writeDurably(
    files.certificate,
    encodePem(derSequence(body, ECDSA_WITH_SHA256, derBits(new Uint8Array(signature)))),
  );
}

const nameOf = (common: string): Uint8Array =>
  derSequence(der(TAG.set, derSequence(derOid('2.5.4.3'), derText(TAG.utf8String, common))));

/** Until 2049 as UTCTime (RFC 5280, section 4.1.2.5). */
function time(milliseconds: number): Uint8Array {
  const digits = new Date(milliseconds).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return derText(TAG.utcTime, digits.slice(2));
}

const extension = (oid: string, critical: boolean, value: Uint8Array): Uint8Array =>
  derSequence(derOid(oid), ...(critical ? [derBoolean(true)] : []), der(TAG.octetString, value));
const basicConstraints = (): Uint8Array => extension('2.5.29.19', true, derSequence(derBoolean(true)));
/** The first byte of the bits: 0x80 digitalSignature, 0x06 keyCertSign and cRLSign. */
const keyUsage = (bits: number): Uint8Array => extension('2.5.29.15', true, derBits(Uint8Array.of(bits)));
const leaf = (purpose: string): Uint8Array[] => [
  extension('2.5.29.19', true, derSequence()),
  keyUsage(0x80),
  extension('2.5.29.37', false, derSequence(derOid(purpose))),
];
const alternativeNames = (names: readonly string[]): Uint8Array =>
  extension('2.5.29.17', false, derSequence(...names.map(generalName)));
/** RFC 5280, section 4.2.1.6: a dNSName, or the bytes of an address. */
const generalName = (name: string): Uint8Array =>
  isIP(name) ? der(0x87, addressBytes(name)) : derText(0x82, name);

/** Four bytes, or sixteen. */
function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number));
  // As a URL has it, an address ends without dots, in groups of hex digits.
  const plain = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head, tail] = plain.split('::').map((half) => half.split(':').filter((group) => group !== ''));
  const zeros = Array<string>(8 - head!.length - (tail?.length ?? 0)).fill('0');
  const groups = [...head!, ...zeros, ...(tail ?? [])].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}
