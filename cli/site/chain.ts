/** What a chain of PEM certificates is to people: the site's own certificate, which comes first. Nothing is judged here. */
import { X509Certificate } from 'node:crypto';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { CERTIFICATE_MAX_BYTES } from '../../lib/site/certificate-rule.ts';

export interface ShownCertificate {
  /** SHA-256 of its SubjectPublicKeyInfo, hex. */
  readonly key: string;
  readonly serial: string;
  readonly issuer: string;
  readonly names: string;
  /** ISO 8601. */
  readonly notBefore: string;
  readonly notAfter: string;
}

const BLOCK = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/**
 * The PEM certificates in somebody's text and nothing else of it: not what tools write around them, and never a key that is kept
 * in the same file.
 * @param where for people
 * @throws CERT_MALFORMED
 */
export function certificatesIn(text: string, where: string): string {
  const blocks = [...text.matchAll(BLOCK)].map(
    ([, base64]) =>
      `-----BEGIN CERTIFICATE-----\n${base64!.trim().split(/\s+/).join('\n')}\n-----END CERTIFICATE-----\n`,
  );
  const chain = blocks.join('');
  if (chain.length > CERTIFICATE_MAX_BYTES)
    throw malformed(`a chain has at most ${CERTIFICATE_MAX_BYTES} bytes, and ${where} has ${chain.length}`);
  if (chain !== '') return chain;
  throw malformed(
    `${where} has no PEM certificate: a chain is the website's own certificate and then those above it, each from -----BEGIN CERTIFICATE----- on`,
  );
}

const malformed = (message: string): DstackError => new DstackError('CERT_MALFORMED', message);

/** @throws CERT_MALFORMED */
export function shownCertificate(chain: string): ShownCertificate {
  try {
    const certificate = new X509Certificate(chain);
    return {
      key: toHex(sha256(certificate.publicKey.export({ type: 'spki', format: 'der' }))),
      serial: certificate.serialNumber.toLowerCase(),
      issuer: certificate.issuer.replaceAll('\n', ', '),
      names: (certificate.subjectAltName ?? '').replaceAll('DNS:', ''),
      notBefore: new Date(certificate.validFrom).toISOString(),
      notAfter: new Date(certificate.validTo).toISOString(),
    };
  } catch (cause) {
    throw new DstackError('CERT_MALFORMED', 'the first certificate of the chain cannot be read', { cause });
  }
}
