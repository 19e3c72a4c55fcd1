/** Certificates of any form, made and signed here: what an authority issues, and what none should. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
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
import { encodePem } from '../../lib/attestation/bytes/pem.ts';

export interface KeyPair {
  publicKey: KeyObject;
  privateKey: KeyObject;
}

export const newKey = (): KeyPair => generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const spkiOf = ({ publicKey }: KeyPair): Uint8Array =>
  new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }));

/** What goes into a certificate; what is left out is as a decent authority has it for a website. */
export interface CertificateForm {
  subject?: string;
  issuer?: string;
  key?: KeyPair;
  issuerKey?: KeyPair;
  names?: readonly string[];
  /** Unix seconds. */
  from?: number;
  to?: number;
  serial?: number | bigint;
  /** Extensions in place of the usual ones, DER. */
  extensions?: readonly Uint8Array[];
  more?: readonly Uint8Array[];
  /** AlgorithmIdentifier, DER; and the hash that is really used. */
  algorithm?: { identifier: Uint8Array; hash: string };
}

export const ecdsaWithSha256 = { identifier: derSequence(derOid('1.2.840.10045.4.3.2')), hash: 'sha256' };
/** RFC 5758 has it no more; authorities have not signed by it since 2016. */
export const ecdsaWithSha1 = { identifier: derSequence(derOid('1.2.840.10045.4.1')), hash: 'sha1' };

export const extension = (oid: string, critical: boolean, value: Uint8Array): Uint8Array =>
  derSequence(derOid(oid), ...(critical ? [derBoolean(true)] : []), der(TAG.octetString, value));

export const basicConstraints = (pathLength?: number): Uint8Array =>
  extension(
    '2.5.29.19',
    true,
    derSequence(
      derBoolean(true),
      ...(pathLength === undefined ? [] : [derInteger(Uint8Array.of(pathLength))]),
    ),
  );
export const notAuthority = (): Uint8Array => extension('2.5.29.19', true, derSequence());
/** The first byte of the bits: 0x80 digitalSignature, 0x06 keyCertSign and cRLSign. */
export const keyUsage = (bits: number): Uint8Array =>
  extension('2.5.29.15', true, derBits(Uint8Array.of(bits)));
export const purposes = (...oids: string[]): Uint8Array =>
  extension('2.5.29.37', false, derSequence(...oids.map(derOid)));
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
export const dnsNames = (...names: string[]): Uint8Array =>
  extension('2.5.29.17', false, derSequence(...names.map(generalName)));

/** RFC 5280, section 4.2.1.6: a dNSName, or the four bytes of an IPv4 address. */
function generalName(name: string): Uint8Array {
  return isIPv4(name) ? der(0x87, Uint8Array.from(name.split('.').map(Number))) : derText(0x82, name);
}

export const authorityExtensions = (pathLength?: number): Uint8Array[] => [
  basicConstraints(pathLength),
  keyUsage(0x06),
];

/** The certificate as PEM. */
export function certificate(form: CertificateForm & { key: KeyPair }): string {
  const { identifier, hash } = form.algorithm ?? ecdsaWithSha256;
  const usual = [
    notAuthority(),
    keyUsage(0x80),
    purposes(SERVER_AUTH),
    dnsNames(...(form.names ?? ['site.example'])),
  ];
  const tbs = derSequence(
    der(TAG.context0, derInteger(Uint8Array.of(2))),
    derInteger(Buffer.from((form.serial ?? 1).toString(16).padStart(8, '0'), 'hex')),
    identifier,
    name(form.issuer ?? 'Root'),
    derSequence(time(form.from ?? 0), time(form.to ?? 4_000_000_000)),
    name(form.subject ?? 'A website'),
    spkiOf(form.key),
    der(TAG.context3, derSequence(...(form.extensions ?? usual), ...(form.more ?? []))),
  );
  const signature = sign(hash, tbs, (form.issuerKey ?? form.key).privateKey);
  return encodePem(derSequence(tbs, identifier, derBits(new Uint8Array(signature))));
}

/** A root that signs itself, and what it issues. */
export class TestAuthority {
  readonly key = newKey();
  readonly name: string;
  readonly pem: string;

  constructor(name = 'Root', form: CertificateForm = {}) {
    this.name = name;
    this.pem = certificate({
      subject: name,
      issuer: name,
      extensions: authorityExtensions(),
      ...form,
      key: this.key,
    });
  }

  issue(form: CertificateForm & { key: KeyPair }): string {
    return certificate({ issuer: this.name, issuerKey: this.key, ...form });
  }
}

const name = (common: string): Uint8Array =>
  derSequence(der(TAG.set, derSequence(derOid('2.5.4.3'), derText(TAG.utf8String, common))));

function time(seconds: number): Uint8Array {
  const digits = new Date(seconds * 1000).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return seconds < 2_524_608_000
    ? derText(TAG.utcTime, digits.slice(2))
    : derText(TAG.generalizedTime, digits);
}
