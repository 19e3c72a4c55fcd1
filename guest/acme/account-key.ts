/** The key of the network's account with the authority: every node derives the same, so the network has one account. */
import { createECDH, createHash, createPrivateKey } from 'node:crypto';

export interface AccountKey {
  /** PKCS #8, PEM. */
  readonly pem: string;
  /** Of the public key (RFC 7638), base64url: with it, a token is answered (RFC 8555, section 8.1). */
  readonly thumbprint: string;
}

/** @param privateKey P-256 scalar, 32 bytes big-endian */
export function accountKey(privateKey: Uint8Array): AccountKey {
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(privateKey);
  const point = ecdh.getPublicKey();
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((half) => half.toString('base64url'));
  // In this order and without spaces, as it is hashed (RFC 7638, section 3).
  const jwk = { crv: 'P-256', kty: 'EC', x: x!, y: y! };
  const key = createPrivateKey({
    format: 'jwk',
    key: { ...jwk, d: Buffer.from(privateKey).toString('base64url') },
  });
  return {
    pem: key.export({ format: 'pem', type: 'pkcs8' }).toString(),
    thumbprint: createHash('sha256').update(JSON.stringify(jwk)).digest('base64url'),
  };
}
