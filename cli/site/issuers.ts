/**
 * A site's certificate with those above it, from where each says that its issuer's is (RFC 5280, section 4.2.2.1). The addresses
 * stand in certificates that nobody has judged: what comes from there is bounded, and used only if it signed the one below.
 */
import { X509Certificate } from 'node:crypto';
import { httpBytes } from '../../host/http-json.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** Between the site's certificate and a root. */
const MAX_ABOVE = 4;
const MAX_BYTES = 16 * 1024;
const WITHIN_MS = 20_000;

/**
 * PEM, the site's first, without the root.
 * @param der the site's
 * @throws CT_ISSUER when an issuer can't be had
 */
export async function withIssuers(der: Uint8Array): Promise<string> {
  const chain = [new X509Certificate(der)];
  for (;;) {
    const issuer = await issuerOf(chain.at(-1)!);
    if (issuer === undefined || isRoot(issuer))
      return chain.map((certificate) => certificate.toString()).join('');
    if (chain.length > MAX_ABOVE) throw new DstackError('CT_ISSUER', 'the chain of issuers does not end');
    chain.push(issuer);
  }
}

const isRoot = (certificate: X509Certificate): boolean => certificate.checkIssued(certificate);

/** Undefined for one that does not say: a root's own, mostly. */
async function issuerOf(certificate: X509Certificate): Promise<X509Certificate | undefined> {
  const url = /^CA Issuers - URI:(https?:\/\/\S+)$/m.exec(certificate.infoAccess ?? '')?.[1];
  if (url === undefined) return undefined;
  const failed = (why: string, cause?: unknown) =>
    new DstackError('CT_ISSUER', `the issuer's certificate is not to be had from ${url}: ${why}`, { cause });
  const { status, bytes } = await httpBytes({ url, maxBytes: MAX_BYTES, timeout: WITHIN_MS }).catch(
    (cause) => {
      throw failed((cause as Error).message, cause);
    },
  );
  if (status !== 200) throw failed(`HTTP ${status}`);
  let issuer: X509Certificate;
  try {
    issuer = new X509Certificate(bytes);
  } catch (cause) {
    throw failed('it is no certificate', cause);
  }
  if (certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)) return issuer;
  throw failed('what is there did not sign it');
}
