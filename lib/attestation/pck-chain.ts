/** The certificate chain under a quote: leaf (PCK), intermediate, root. */
import { bytesEqual } from '../protocol/encoding.ts';
import { type Certificate, isSignedBy, parseCertificate } from './certificate.ts';
import { AttestationError } from './errors.ts';
import { decodePemChain } from './pem.ts';
import type { TrustRoot } from './trust-roots.ts';

/** How far the verifier's clock may be off; certificates are judged within it. */
export const CLOCK_SKEW_MS = 20 * 60 * 1000;

/**
 * Checks that `pem` is a chain from a PCK certificate to exactly `trustRoot`, each certificate in its role and valid at
 * `now`, and returns the PCK certificate. Revocation is not looked at here.
 * @throws AttestationError with a PCK_CHAIN_ code, or of the certificate's encoding.
 */
export function verifyPckChain(pem: Uint8Array, trustRoot: TrustRoot, now: Date): Certificate {
  const ders = decodePemChain(pem);
  const [leafDer, intermediateDer, rootDer] = ders;
  if (leafDer === undefined || intermediateDer === undefined || rootDer === undefined || ders.length !== 3) {
    throw new AttestationError('PCK_CHAIN_FORMAT', `a PCK chain has 3 certificates, not ${ders.length}`);
  }
  requireTrustedRoot(rootDer, trustRoot);
  const leaf = parseCertificate(leafDer);
  const intermediate = parseCertificate(intermediateDer);
  const root = parseCertificate(rootDer);
  requireRoles(leaf, intermediate, root, trustRoot);
  requireIssued(intermediate, root);
  requireIssued(leaf, intermediate);
  for (const certificate of [root, intermediate, leaf]) requireValidAt(certificate, now);
  return leaf;
}

/** The root is trusted because of its bytes, not because of anything that it says. */
function requireTrustedRoot(rootDer: Uint8Array, trustRoot: TrustRoot): void {
  if (!bytesEqual(rootDer, trustRoot.certificate)) {
    throw new AttestationError(
      'PCK_CHAIN_ROOT',
      `the PCK chain does not end at the ${trustRoot.name} root certificate`,
    );
  }
}

function requireRoles(
  leaf: Certificate,
  intermediate: Certificate,
  root: Certificate,
  trustRoot: TrustRoot,
): void {
  const { roles } = trustRoot;
  const fit =
    leaf.commonName === roles.leaf &&
    roles.intermediates.includes(intermediate.commonName) &&
    root.commonName === roles.root &&
    !leaf.isAuthority &&
    leaf.maySignData &&
    !leaf.maySignCertificates &&
    intermediate.isAuthority &&
    intermediate.maySignCertificates;
  if (!fit) {
    const names = [leaf, intermediate, root].map(({ commonName }) => JSON.stringify(commonName.slice(0, 64)));
    throw new AttestationError('PCK_CHAIN_ROLE', `certificates are not in their roles: ${names.join(' < ')}`);
  }
}

function requireIssued(certificate: Certificate, issuer: Certificate): void {
  if (!bytesEqual(certificate.issuer, issuer.subject)) {
    throw new AttestationError(
      'PCK_CHAIN_ISSUER',
      `${certificate.commonName} names another issuer than ${issuer.commonName}`,
    );
  }
  if (!isSignedBy(certificate, issuer)) {
    throw new AttestationError(
      'PCK_CHAIN_SIGNATURE',
      `${certificate.commonName} is not signed by ${issuer.commonName}`,
    );
  }
}

function requireValidAt(certificate: Certificate, now: Date): void {
  const time = now.getTime();
  if (time + CLOCK_SKEW_MS < certificate.notBefore || time - CLOCK_SKEW_MS > certificate.notAfter) {
    const [from, to] = [certificate.notBefore, certificate.notAfter].map((end) =>
      new Date(end).toISOString(),
    );
    throw new AttestationError(
      'PCK_CHAIN_VALIDITY',
      `${certificate.commonName} is valid from ${from} to ${to}, not at ${now.toISOString()}`,
    );
  }
}
