/**
 * The one rule by which the website's certificate is taken into use, whatever way it came: by an order of our own, from the host,
 * from a stranger. Every way is hostile. What is refused changes nothing: the certificate in use stays.
 *
 * In this order: its form, our key, our names, an unbroken chain to a root that the image trusts, dates by the chain's clock (the
 * host sets the machine's), and newer than the one in use. Path validation is RFC 5280, section 6.1, less what websites have
 * no use for: constraints on names and policies that bind are refused, not worked out.
 */
import { encodePem } from '../attestation/bytes/pem.ts';
import { AttestationError } from '../attestation/errors.ts';
import { bytesEqual, sha256, toHex } from '../protocol/encoding.ts';
import { codeOf, DstackError } from '../protocol/errors.ts';
import type { Hex } from '../protocol/hex.ts';
import { isSignedByKey, parseWebCertificate, type WebCertificate } from './web-certificate.ts';

/** The most that is looked at, in bytes of PEM. */
export const CERTIFICATE_MAX_BYTES = 16 * 1024;
/** Certificates in one chain: a site's, and a few above it. */
const MAX_CHAIN = 5;
/** Of a certificate, bytes. */
const MAX_SERIAL = 20;
/** The chain's clock may be behind the authority's by a block's way to finality. Seconds. */
const CLOCK_BEHIND = 3600;

const BLOCK = /-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----/g;

export interface CertificateRule {
  /** SubjectPublicKeyInfo of the network's TLS key, DER. */
  readonly publicKey: Uint8Array;
  /** Every one of them must be in the certificate; lower case. */
  readonly names: readonly string[];
  readonly roots: readonly WebCertificate[];
  /** Unix seconds, by the chain. */
  readonly now: number;
}

/** A certificate that the rule took. */
export interface SiteCertificate {
  /** PEM, in one form: the site's certificate, and its issuers without the root. */
  readonly chain: string;
  /** SHA-256 of what the authority signed of the site's certificate: anybody can write an ECDSA signature in another way. */
  readonly fingerprint: Hex;
  /** Hex. */
  readonly serial: string;
  readonly names: readonly string[];
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * The certificate, if it is to be used in place of `present`, or beside none.
 * @throws DstackError CERT_MALFORMED, CERT_KEY, CERT_NAME, CERT_CHAIN, CERT_EXPIRED (not yet valid, too), CERT_OLDER (the same
 *   one, too)
 */
export function judgeCertificate(
  pem: string,
  rule: CertificateRule,
  present?: SiteCertificate,
): SiteCertificate {
  const given = parseChain(pem);
  const [leaf] = given;
  requireForm(leaf);
  requireKey(leaf, rule.publicKey);
  requireNames(leaf, rule.names);
  requireServer(leaf);
  const chain = trustedPart(given, rule.roots, rule.now);
  requireDates(chain, rule.now);
  const candidate = describe(chain);
  // Lines of 64 characters make it longer.
  if (candidate.chain.length > CERTIFICATE_MAX_BYTES)
    throw malformed(`a chain has at most ${CERTIFICATE_MAX_BYTES} bytes`);
  if (present !== undefined) requireNewer(candidate, present, rule);
  return candidate;
}

/**
 * The roots in a PEM bundle such as Debian's ca-certificates. One that could issue nothing under this rule is left out: some of a
 * public bundle are of another version or profile.
 * @throws DstackError CERT_ROOTS when none is left
 */
export function parseRoots(bundle: string): WebCertificate[] {
  const roots = [...bundle.replaceAll('\r\n', '\n').matchAll(BLOCK)].flatMap(([, base64]) => {
    try {
      const root = parseWebCertificate(new Uint8Array(Buffer.from(base64!, 'base64')));
      return root.isAuthority && root.usage?.signsCertificates === true ? [root] : [];
    } catch (error) {
      if (error instanceof AttestationError) return [];
      throw error;
    }
  });
  if (roots.length === 0) throw new DstackError('CERT_ROOTS', 'there is no root certificate to trust');
  return roots;
}

type Chain = [WebCertificate, ...WebCertificate[]];

function parseChain(pem: string): Chain {
  // Before anything reads it.
  if (pem.length > CERTIFICATE_MAX_BYTES)
    throw malformed(`a chain has at most ${CERTIFICATE_MAX_BYTES} bytes`);
  const text = pem.replaceAll('\r\n', '\n');
  const blocks = [...text.matchAll(BLOCK)].map(([, base64]) => base64!);
  if (blocks.length === 0 || blocks.length > MAX_CHAIN || text.replaceAll(BLOCK, '').trim() !== '')
    throw malformed(`a chain is one to ${MAX_CHAIN} PEM certificates and nothing else`);
  try {
    const [leaf, ...above] = blocks.map((base64) =>
      parseWebCertificate(new Uint8Array(Buffer.from(base64, 'base64'))),
    );
    return [leaf!, ...above];
  } catch (error) {
    if (error instanceof AttestationError) throw malformed(`a certificate cannot be read: ${error.message}`);
    throw error;
  }
}

/** RFC 5280, sections 4.1.2.2 and 4.1.2.5: what a status and a memory have room for. */
function requireForm({ serial, notBefore }: WebCertificate): void {
  // One byte more than the number has, for its sign.
  if (serial.length > MAX_SERIAL + 1 || notBefore < 0)
    throw malformed(
      `a serial number has at most ${MAX_SERIAL} bytes, and no certificate is from before 1970`,
    );
}

function requireKey(leaf: WebCertificate, publicKey: Uint8Array): void {
  if (!bytesEqual(leaf.publicKey, publicKey))
    throw new DstackError('CERT_KEY', 'the certificate is for another key than the network’s');
}

function requireNames(leaf: WebCertificate, names: readonly string[]): void {
  const missing = names.filter((name) => !leaf.dnsNames.some((pattern) => covers(pattern, name)));
  if (names.length === 0 || missing.length > 0)
    throw new DstackError(
      'CERT_NAME',
      `the certificate is not for ${missing.join(', ') || 'any name of ours'}`,
    );
}

/** A wildcard is a whole first label, and stands for one (RFC 9525, section 6.3). */
function covers(pattern: string, name: string): boolean {
  return pattern === name || (pattern.startsWith('*.') && name.slice(name.indexOf('.')) === pattern.slice(1));
}

function requireServer({ isAuthority, usage, forServers }: WebCertificate): void {
  if (isAuthority || usage?.signsData === false || forServers !== true)
    throw new DstackError('CERT_CHAIN', 'the certificate is not one for a web server');
}

/**
 * The chain up to the last one that a trusted root issued, each issued by the next. What stands above that, anybody could have made,
 * with any size and any end; a cross-signed one is served if the image trusts who signed it.
 */
function trustedPart(given: Chain, roots: readonly WebCertificate[], now: number): Chain {
  const usable = roots.filter(({ notBefore, notAfter }) => notBefore <= now && now <= notAfter);
  const broken = given.findIndex(
    (certificate, index) => index + 1 < given.length && !isIssued(certificate, given[index + 1]!, index),
  );
  if (broken >= 0)
    throw new DstackError(
      'CERT_CHAIN',
      `certificate ${broken + 1} of the chain is not issued by the next, or that may issue none`,
    );
  const last = given.findLastIndex((certificate, below) =>
    usable.some((root) => bytesEqual(root.raw, certificate.raw) || isIssued(certificate, root, below)),
  );
  if (last < 0)
    throw new DstackError('CERT_CHAIN', 'the chain does not end in a root that this image trusts');
  const [leaf, ...above] = given;
  return [leaf, ...above.slice(0, last)];
}

/** @param below how many authorities stand between the issuer and the site's certificate */
function isIssued(certificate: WebCertificate, issuer: WebCertificate, below: number): boolean {
  return (
    bytesEqual(certificate.issuer, issuer.subject) &&
    issuer.isAuthority &&
    issuer.usage?.signsCertificates === true &&
    issuer.forServers !== false &&
    !issuer.constrainsNames &&
    (issuer.pathLength === undefined || issuer.pathLength >= below) &&
    isSignedByKey(certificate, issuer)
  );
}

function requireDates(chain: Chain, now: number): void {
  for (const { notBefore, notAfter } of chain) {
    if (now + CLOCK_BEHIND < notBefore || now > notAfter) {
      const [from, to, at] = [notBefore, notAfter, now].map((time) => new Date(time * 1000).toISOString());
      throw new DstackError(
        'CERT_EXPIRED',
        `a certificate of the chain is valid from ${from} to ${to}, and the chain’s clock says ${at}`,
      );
    }
  }
}

/** The order is total, so that nodes that hear of the same certificates end with the same one. */
function requireNewer(candidate: SiteCertificate, present: SiteCertificate, rule: CertificateRule): void {
  if (!stillFits(present, rule)) return;
  const order =
    candidate.notBefore - present.notBefore ||
    candidate.notAfter - present.notAfter ||
    (candidate.fingerprint > present.fingerprint ? 1 : -1);
  if (candidate.fingerprint === present.fingerprint || order < 0)
    throw new DstackError('CERT_OLDER', 'the certificate is no newer than the one in use');
}

/** Whether the rule would take it today, had there been none: names change, and time passes. */
export function stillFits({ chain }: SiteCertificate, rule: CertificateRule): boolean {
  try {
    judgeCertificate(chain, rule);
    return true;
  } catch (error) {
    if (codeOf(error).startsWith('CERT_')) return false;
    throw error;
  }
}

function describe(chain: Chain): SiteCertificate {
  const [leaf] = chain;
  const served = chain.filter(
    (certificate, index) => index === 0 || !bytesEqual(certificate.issuer, certificate.subject),
  );
  return {
    chain: served.map(({ raw }) => encodePem(raw)).join(''),
    fingerprint: toHex(sha256(leaf.tbs)),
    serial: toHex(leaf.serial),
    names: leaf.dnsNames,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
  };
}

const malformed = (message: string): DstackError => new DstackError('CERT_MALFORMED', message);
