/** ECDSA over P-256 with SHA-256, by node:crypto (FIPS 186-5). Verification only. */
import { createPublicKey, verify } from 'node:crypto';

/** SubjectPublicKeyInfo of an uncompressed P-256 point, up to and including the 0x04 that precedes x ‖ y (RFC 5480). */
export const P256_SPKI_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');

/**
 * True when `signature` over `message` is by `publicKey` (x ‖ y, 64 bytes). `form` is how the signature is written: r ‖ s
 * as in quotes, or DER as in certificates. A point that is not on the curve verifies nothing.
 */
export function verifyP256(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  form: 'r-s' | 'der',
): boolean {
  if (form === 'r-s' && signature.length !== 64) return false;
  try {
    const key = createPublicKey({
      key: Buffer.concat([P256_SPKI_PREFIX, publicKey]),
      format: 'der',
      type: 'spki',
    });
    return verify('sha256', message, { key, dsaEncoding: form === 'der' ? 'der' : 'ieee-p1363' }, signature);
  } catch {
    return false;
  }
}
