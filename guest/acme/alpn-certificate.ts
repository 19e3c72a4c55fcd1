/** The certificate that answers tls-alpn-01 (RFC 8737, section 3): for one name, with a key that is used for nothing else. */
import type { ShownChallenge } from './authority.ts';

/** @returns PEM */
export async function alpnCertificate({
  domain,
  keyAuthorization,
}: ShownChallenge): Promise<{ certificate: string; key: string }> {
  const { default: acme } = await import('acme-client');
  const own = await acme.crypto.createPrivateEcdsaKey('P-256');
  const authorization = { identifier: { type: 'dns', value: domain } };
  const [key, certificate] = await acme.crypto.createAlpnCertificate(
    authorization as never,
    keyAuthorization,
    own,
  );
  return { certificate: certificate.toString(), key: key.toString() };
}
