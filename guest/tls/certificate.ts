/**
 * The network's self-signed certificate (RFC 5280), made from the key alone.
 *
 * Everything in it is fixed by the key, the network and the image, and the signature is deterministic (RFC 6979): all
 * nodes of one image show the same bytes, and a client that pinned them never sees the machine change.
 */
import { createHash, createPrivateKey, type KeyObject } from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import type { asn1 as Asn1 } from 'node-forge';
import asn1 from 'node-forge/lib/asn1.js';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';

const { Class, Type } = asn1;

const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const EC_P256 = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'));
const TEN_YEARS = 10 * 365 * 24 * 3600;
/** Clients' clocks may be behind the builder's. */
const SKEW = 24 * 3600;

export interface CertificateOptions {
  /** P-256 scalar, 32 bytes big-endian. */
  privateKey: Uint8Array;
  chainId: number;
  /** 0x-prefixed address of the network's contract. */
  contract: Address;
  /** Unix seconds. */
  builtAt: number;
}

/** What a TLS server needs. */
export interface Credentials {
  key: KeyObject;
  /** PEM. */
  certificate: string;
  /** SHA-256 of the certificate, hex: what a client pins. */
  fingerprint: string;
}

export function selfSigned(options: CertificateOptions): Credentials {
  const publicKey = p256.getPublicKey(options.privateKey, false);
  const body = toBeSigned(options, publicKey);
  const signature = p256.sign(derOf(body), options.privateKey, { format: 'der', lowS: false });
  const der = derOf(sequence(body, ECDSA_WITH_SHA256, bits(signature)));
  const base64 = der
    .toString('base64')
    .replace(/(.{64})/g, '$1\n')
    .trimEnd();
  return {
    key: keyObject(options.privateKey, publicKey),
    certificate: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    fingerprint: createHash('sha256').update(der).digest('hex'),
  };
}

function toBeSigned({ chainId, contract, builtAt }: CertificateOptions, publicKey: Uint8Array): Asn1.Asn1 {
  const address = addressKey(contract);
  const name = sequence(
    set(sequence(oid('2.5.4.10'), text(`Dstack network on chain ${chainId}`))),
    set(sequence(oid('2.5.4.3'), text(address))),
  );
  const serial = createHash('sha256')
    .update('dstack/v1/serial')
    .update(publicKey)
    .update(`${builtAt}`)
    .digest();
  return sequence(
    explicit(0, integer(Uint8Array.of(2))),
    // Never zero, and at most 20 bytes (RFC 5280 section 4.1.2.2).
    integer(Uint8Array.from([serial[0]! | 1, ...serial.subarray(1, 15)])),
    ECDSA_WITH_SHA256,
    name,
    sequence(time(builtAt - SKEW), time(builtAt + TEN_YEARS)),
    name,
    sequence(EC_P256, bits(publicKey)),
    explicit(3, extensions(address)),
  );
}

function extensions(address: string): Asn1.Asn1 {
  const extension = (id: string, critical: boolean, value: Asn1.Asn1) =>
    sequence(
      oid(id),
      ...(critical ? [primitive(Type.BOOLEAN, '\xff')] : []),
      primitive(Type.OCTETSTRING, asn1.toDer(value).getBytes()),
    );
  // A name that can never be anybody's, for clients that pin; and the names under which a developer reaches a node.
  const names = sequence(
    implicit(2, `${address}.dstack.invalid`),
    implicit(2, 'localhost'),
    implicit(7, binary(fromHex('7f000001'))),
  );
  return sequence(
    extension('2.5.29.19', true, sequence()),
    extension('2.5.29.15', true, bits(Uint8Array.of(0x80), 7)),
    extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))),
    extension('2.5.29.17', false, names),
  );
}

function keyObject(privateKey: Uint8Array, publicKey: Uint8Array): KeyObject {
  const url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const point = { x: url(publicKey.subarray(1, 33)), y: url(publicKey.subarray(33)) };
  return createPrivateKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', d: url(privateKey), ...point } });
}

/** node-forge takes and gives bytes as strings with one character each. */
function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

function derOf(element: Asn1.Asn1): Buffer {
  return Buffer.from(asn1.toDer(element).getBytes(), 'latin1');
}

function primitive(type: Asn1.Type, content: string): Asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, type, false, content);
}

function sequence(...parts: Asn1.Asn1[]): Asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, parts);
}

function set(part: Asn1.Asn1): Asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SET, true, [part]);
}

function oid(dotted: string): Asn1.Asn1 {
  return primitive(Type.OID, asn1.oidToDer(dotted).getBytes());
}

function text(value: string): Asn1.Asn1 {
  return primitive(Type.UTF8, Buffer.from(value, 'utf8').toString('latin1'));
}

/** A positive integer from big-endian bytes without leading zeros; node-forge drops the sign's byte if it isn't needed. */
function integer(bytes: Uint8Array): Asn1.Asn1 {
  return primitive(Type.INTEGER, `\0${binary(bytes)}`);
}

/** A bit string; `unused` trailing bits of the last byte do not count. */
function bits(content: Uint8Array, unused = 0): Asn1.Asn1 {
  return primitive(Type.BITSTRING, String.fromCharCode(unused) + binary(content));
}

/** Unix seconds as RFC 5280 section 4.1.2.5 wants it: UTCTime until 2049, GeneralizedTime from 2050. */
function time(seconds: number): Asn1.Asn1 {
  const date = new Date(seconds * 1000);
  return date.getUTCFullYear() < 2050
    ? primitive(Type.UTCTIME, asn1.dateToUtcTime(date))
    : primitive(Type.GENERALIZEDTIME, asn1.dateToGeneralizedTime(date));
}

function explicit(tag: number, part: Asn1.Asn1): Asn1.Asn1 {
  return asn1.create(Class.CONTEXT_SPECIFIC, tag, true, [part]);
}

function implicit(tag: number, content: string): Asn1.Asn1 {
  return asn1.create(Class.CONTEXT_SPECIFIC, tag, false, content);
}
