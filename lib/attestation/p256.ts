/** ECDSA over P-256 with SHA-256, by node:crypto (FIPS 186-5). Verification only. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';

/** SubjectPublicKeyInfo of an uncompressed P-256 point, up to and including the 0x04 that precedes x ‖ y (RFC 5480). */
export const P256_SPKI_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');

/** How a signature is written: r ‖ s as in quotes and collateral, or DER as in certificates and CRLs. */
export type SignatureForm = 'r-s' | 'der';

/** A public key. It is imported once, on first use: that costs a third of what a verification does. */
export class P256Key {
  /** x ‖ y, 64 bytes. */
  readonly point: Uint8Array;
  #key: KeyObject | undefined;

  constructor(point: Uint8Array) {
    this.point = point;
  }

  /** True when `signature` over `message` is by this key. A point that is not on the curve verifies nothing. */
  verify(message: Uint8Array, signature: Uint8Array, form: SignatureForm): boolean {
    if (form === 'r-s' && signature.length !== 64) return false;
    try {
      this.#key ??= createPublicKey({
        key: Buffer.concat([P256_SPKI_PREFIX, this.point]),
        format: 'der',
        type: 'spki',
      });
      const dsaEncoding = form === 'der' ? 'der' : 'ieee-p1363';
      return verify('sha256', message, { key: this.#key, dsaEncoding }, signature);
    } catch {
      return false;
    }
  }
}
