/**
 * Ed25519 (RFC 8032, section 5.1) with one answer for all: what one node takes, every node takes, and nobody but the key's owner can turn a
 * good signature into another good one. The RFC leaves a verifier free to multiply by the cofactor and to read a point written in two ways;
 * here the equation is `[S]B = R + [k]A` without cofactor, R is compared as bytes, `S < L`, and A is written in the one canonical
 * way and not of small order (under such a key anyone can sign).
 */
import { verify } from 'node:crypto';
import { publicKeyOfApp, signWith } from '../app-keys.ts';
import { fromHex, toHex } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { verifyingKey } from './verifying-keys.ts';

export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;
const SEED_BYTES = 32;

/** The prime of the field and the order of the base point, little-endian as in keys and signatures. */
const FIELD = fromHex('edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f');
const GROUP_ORDER = fromHex('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010');

/** The y of the eight points whose order divides the cofactor; the sign of x is the top bit, which is not in them. */
const SMALL_ORDER_Y: ReadonlySet<string> = new Set([
  `01${'00'.repeat(31)}`,
  '00'.repeat(32),
  `ec${'ff'.repeat(30)}7f`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
]);

/**
 * Refuses a public key that is written in a second way or under which anyone can sign. Whether it is a point at all only shows when a
 * signature is verified.
 * @throws RECORD_KEY
 */
export function requireCanonicalKey(publicKey: Uint8Array, whose: string): void {
  if (publicKey.length !== PUBLIC_KEY_BYTES) {
    throw new DstackError('RECORD_KEY', `${whose} has ${publicKey.length} bytes; an Ed25519 key has 32`);
  }
  const y = publicKey.with(31, publicKey[31]! & 0x7f);
  if (!isBelow(y, FIELD)) {
    throw new DstackError(
      'RECORD_KEY',
      `${whose} is not in its canonical form; write y below the field's prime`,
    );
  }
  if (SMALL_ORDER_Y.has(toHex(y))) {
    throw new DstackError('RECORD_KEY', `${whose} is a point of small order, under which anyone can sign`);
  }
}

/** Refuses the second S that fits the same equation (RFC 8032, section 5.1.7, step 1). @throws RECORD_SIGNATURE_FORM */
export function requireCanonicalSignature(signature: Uint8Array, whose: string): void {
  if (signature.length !== SIGNATURE_BYTES || !isBelow(signature.subarray(32), GROUP_ORDER)) {
    throw new DstackError(
      'RECORD_SIGNATURE_FORM',
      `${whose} is not the one form of an Ed25519 signature; S must be below the group's order`,
    );
  }
}

/** Whether the signature is good, by the rules above. Key and signature must have passed those. */
export function isSignedStrictly(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES || publicKey.length !== PUBLIC_KEY_BYTES) return false;
  try {
    return verify(null, message, verifyingKey(publicKey), signature);
  } catch {
    return false;
  }
}

/** 64 bytes; the same for the same message. @param seed 32 bytes (RFC 8032, section 5.1.5). @throws RECORD_SEED */
export function signStrictly(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return signWith('ed25519', requireSeed(seed), message);
}

/** @throws RECORD_SEED */
export function publicKeyOfSeed(seed: Uint8Array): Uint8Array {
  return publicKeyOfApp('ed25519', requireSeed(seed));
}

function requireSeed(seed: Uint8Array): Uint8Array {
  if (seed.length === SEED_BYTES) return seed;
  throw new DstackError('RECORD_SEED', `an Ed25519 seed has ${SEED_BYTES} bytes, not ${seed.length}`);
}

/** Both little-endian and of the same length. Public values only: not constant time. */
function isBelow(value: Uint8Array, bound: Uint8Array): boolean {
  for (let i = bound.length - 1; i >= 0; i--) {
    if (value[i] !== bound[i]) return value[i]! < bound[i]!;
  }
  return false;
}
