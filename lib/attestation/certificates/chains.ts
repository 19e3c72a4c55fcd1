/**
 * The certificate chains of evidence, all under one root: the PCK chain in the quote (leaf, intermediate, root), the
 * issuer of the PCK CRL (intermediate, root), and the signer of TCB info and QE identity (signer, root). Each certificate
 * is accepted in its one role only.
 *
 * What depends on the bytes alone is checked by the `read…` functions, whose results may be remembered; validity at an
 * instant and revocation are separate.
 */
import { bytesEqual } from '../../protocol/encoding.ts';
import { decodePem, splitPemChain } from '../bytes/pem.ts';
import { AttestationError, type ChainName } from '../errors.ts';
import { type Certificate, isSignedBy, parseCertificate } from './certificate.ts';
import { isRevoked, type RevocationList } from './crl.ts';
import { parseSgxExtension, SGX_EXTENSION_OID, type SgxExtension } from './sgx-extension.ts';
import type { TrustRoot } from './trust-roots.ts';

/** How far a node's clock may be off: certificates and collateral are judged within it. */
export const CLOCK_SKEW_MS = 20 * 60 * 1000;

export interface PckChain {
  readonly leaf: Certificate;
  readonly intermediate: Certificate;
  readonly root: Certificate;
  readonly sgx: SgxExtension;
}

/** Certificates that were found to be issued by the root, by their PEM. */
export interface IssuedByRoot {
  get(pem: string): Certificate | undefined;
  set(pem: string, certificate: Certificate): void;
}

/**
 * The PCK chain of a quote: exactly leaf, intermediate, root, each in its role and signed by the next.
 * @throws AttestationError with a PCK_CHAIN_ code, SGX_EXTENSION, or of the certificate's encoding.
 */
export function readPckChain(pem: string, trustRoot: TrustRoot, issued: IssuedByRoot): PckChain {
  const name = 'PCK_CHAIN';
  const [leafBlock = '', block = ''] = blocksUnderRoot(pem, 3, name, trustRoot);
  const { root } = trustRoot;
  const leaf = parseCertificate(decodePem(leafBlock, name));
  const known = issued.get(block);
  const intermediate = known ?? parseCertificate(decodePem(block, name));
  requireRole(
    leaf.commonName === trustRoot.roles.leaf && isSigner(leaf) && isIntermediate(intermediate, trustRoot),
    [leaf, intermediate, root],
    name,
  );
  if (known === undefined) requireIssued(intermediate, root, name);
  issued.set(block, intermediate);
  requireIssued(leaf, intermediate, name);
  return { leaf, intermediate, root, sgx: parseSgxExtension(leaf) };
}

/** The authority whose PCK CRL comes with collateral. @throws AttestationError with a CRL_CHAIN_ code */
export function readCrlIssuer(pem: string, trustRoot: TrustRoot, issued: IssuedByRoot): Certificate {
  return readUnderRoot(pem, trustRoot, issued, 'CRL_CHAIN', (certificate) =>
    isIntermediate(certificate, trustRoot),
  );
}

/** The signer of TCB info or QE identity. @throws AttestationError with a code of `name` */
export function readTcbSigner(
  pem: string,
  trustRoot: TrustRoot,
  issued: IssuedByRoot,
  name: 'TCB_CHAIN' | 'QE_CHAIN',
): Certificate {
  return readUnderRoot(
    pem,
    trustRoot,
    issued,
    name,
    (certificate) =>
      certificate.commonName === trustRoot.roles.tcbSigner &&
      isSigner(certificate) &&
      !certificate.extensions.has(SGX_EXTENSION_OID),
  );
}

/** A chain of a certificate in its role, then the root. */
function readUnderRoot(
  pem: string,
  trustRoot: TrustRoot,
  issued: IssuedByRoot,
  name: ChainName,
  fits: (certificate: Certificate) => boolean,
): Certificate {
  const [block = ''] = blocksUnderRoot(pem, 2, name, trustRoot);
  const known = issued.get(block);
  const certificate = known ?? parseCertificate(decodePem(block, name));
  requireRole(fits(certificate), [certificate, trustRoot.root], name);
  if (known === undefined) requireIssued(certificate, trustRoot.root, name);
  issued.set(block, certificate);
  return certificate;
}

/** @throws AttestationError `${name}_VALIDITY` */
export function requireValidAt(certificate: Certificate, now: number, skewMs: number, name: ChainName): void {
  if (now + skewMs < certificate.notBefore || now - skewMs > certificate.notAfter) {
    const [from, to, at] = [certificate.notBefore, certificate.notAfter, now].map((time) =>
      new Date(time).toISOString(),
    );
    throw new AttestationError(
      `${name}_VALIDITY`,
      `${certificate.commonName} is valid from ${from} to ${to}, not at ${at}`,
    );
  }
}

/** @throws AttestationError `code` when `certificate` is on its issuer's list */
export function requireNotRevoked(
  certificate: Certificate,
  list: RevocationList,
  code: 'PCK_REVOKED' | `${ChainName}_REVOKED`,
): void {
  if (isRevoked(certificate, list)) {
    throw new AttestationError(code, `${certificate.commonName} is revoked by its issuer`);
  }
}

/** The PEM blocks of a chain of exactly `length` certificates that ends at the trusted root. */
function blocksUnderRoot(pem: string, length: number, name: ChainName, trustRoot: TrustRoot): string[] {
  const blocks = splitPemChain(pem, name);
  if (blocks.length !== length) {
    throw new AttestationError(
      `${name}_FORMAT`,
      `the chain must have ${length} certificates, not ${blocks.length}`,
    );
  }
  // The root is trusted because of its bytes, not because of anything that it says.
  if (blocks[length - 1] !== trustRoot.pem) {
    throw new AttestationError(
      `${name}_ROOT`,
      `the chain does not end at the ${trustRoot.name} root certificate`,
    );
  }
  return blocks;
}

function isSigner(certificate: Certificate): boolean {
  return (
    !certificate.isAuthority &&
    certificate.pathLength === undefined &&
    certificate.maySignData &&
    !certificate.maySignCertificates &&
    !certificate.maySignCrls
  );
}

function isIntermediate(certificate: Certificate, { roles }: TrustRoot): boolean {
  return (
    roles.intermediates.includes(certificate.commonName) &&
    certificate.isAuthority &&
    certificate.pathLength === 0 &&
    certificate.maySignCertificates &&
    certificate.maySignCrls &&
    !certificate.extensions.has(SGX_EXTENSION_OID)
  );
}

function requireRole(fit: boolean, chain: readonly Certificate[], name: ChainName): void {
  if (fit) return;
  const names = chain.map(({ commonName }) => JSON.stringify(commonName.slice(0, 64)));
  throw new AttestationError(`${name}_ROLE`, `certificates are not in their roles: ${names.join(' < ')}`);
}

function requireIssued(certificate: Certificate, issuer: Certificate, name: ChainName): void {
  if (!bytesEqual(certificate.issuer, issuer.subject)) {
    throw new AttestationError(
      `${name}_ISSUER`,
      `${certificate.commonName} names another issuer than ${issuer.commonName}`,
    );
  }
  if (!isSignedBy(certificate, issuer)) {
    throw new AttestationError(
      `${name}_SIGNATURE`,
      `${certificate.commonName} is not signed by ${issuer.commonName}`,
    );
  }
}
