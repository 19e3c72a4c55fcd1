/**
 * secp256k1 as Ethereum uses it: addresses, and recoverable low-s signatures over 32-byte digests.
 *
 * noble's curve is used directly: the guest signs and recovers a handful of times, and must start fast.
 */
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { to0x, toHex } from './encoding.ts';
import { DstackError } from './errors.ts';
import type { Address, Hex } from './hex.ts';

/** A signature in the three numbers that Ethereum's `ecrecover` takes. `v` is 27 or 28. */
export interface Signature {
  r: Uint8Array;
  s: Uint8Array;
  v: 27 | 28;
}

/** EIP-2098: `vs` carries v's parity in the top bit of s. The form that the contract takes. */
export interface CompactSignature {
  r: Hex;
  vs: Hex;
}

export function newPrivateKey(): Uint8Array {
  return secp256k1.utils.randomSecretKey();
}

/** The EIP-55 address of a private key. */
export function addressOf(privateKey: Uint8Array): Address {
  return addressOfPublicKey(secp256k1.getPublicKey(privateKey, false));
}

/** The public key of a private key, compressed: 33 bytes (SEC 1, section 2.3.3). */
export function publicKeyOf(privateKey: Uint8Array): Uint8Array {
  return secp256k1.getPublicKey(privateKey, true);
}

/** Signs a 32-byte digest; low s, deterministic (RFC 6979). */
export function sign(digest: Uint8Array, privateKey: Uint8Array): Signature {
  const bytes = secp256k1.sign(digest, privateKey, { prehash: false, lowS: true, format: 'recovered' });
  return { r: bytes.slice(1, 33), s: bytes.slice(33, 65), v: bytes[0] === 0 ? 27 : 28 };
}

export function compact(signature: Signature): CompactSignature {
  const vs = signature.s.slice();
  if (signature.v === 28) vs[0] = vs[0]! | 0x80;
  return { r: to0x(signature.r), vs: to0x(vs) };
}

/**
 * The address that signed `digest`.
 * @throws SIGNATURE_INVALID for a high s, an r or s out of range, or a point that does not exist
 */
export function recover(digest: Uint8Array, r: Uint8Array, vs: Uint8Array): Address {
  if (digest.length !== 32 || r.length !== 32 || vs.length !== 32) {
    throw new DstackError('SIGNATURE_INVALID', 'digest, r and vs must have 32 bytes each');
  }
  const s = vs.slice();
  const parity = s[0]! >> 7;
  s[0] = s[0]! & 0x7f;
  try {
    const parsed = secp256k1.Signature.fromBytes(Uint8Array.from([parity, ...r, ...s]), 'recovered');
    if (parsed.hasHighS()) throw new DstackError('SIGNATURE_INVALID', 'the signature has a high s');
    return addressOfPublicKey(parsed.recoverPublicKey(digest).toBytes(false));
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('SIGNATURE_INVALID', 'the signature is not one over secp256k1', { cause });
  }
}

/** r ‖ s ‖ recovery id (0 or 1), 65 bytes: the form of the ecosystem's signature chains. */
export function recoverable({ r, s, v }: Signature): Uint8Array {
  return Uint8Array.from([...r, ...s, v - 27]);
}

/**
 * The compressed public key behind such a signature.
 * @throws SIGNATURE_INVALID for another length, a high s, an r or s out of range, or a point that does not exist
 */
export function recoverPublicKey(digest: Uint8Array, signature: Uint8Array): Uint8Array {
  const recovery = signature[64];
  if (digest.length !== 32 || signature.length !== 65 || (recovery !== 0 && recovery !== 1))
    throw new DstackError('SIGNATURE_INVALID', 'a digest has 32 bytes, a signature r ‖ s ‖ 0 or 1');
  try {
    const parsed = secp256k1.Signature.fromBytes(
      Uint8Array.from([recovery, ...signature.subarray(0, 64)]),
      'recovered',
    );
    if (!parsed.hasHighS()) return parsed.recoverPublicKey(digest).toBytes(true);
  } catch (cause) {
    throw new DstackError('SIGNATURE_INVALID', 'the signature is not one over secp256k1', { cause });
  }
  throw new DstackError('SIGNATURE_INVALID', 'the signature has a high s');
}

/** Whether `signature`, r ‖ s with a low s, is one over this digest. `publicKey` in 33 or 65 bytes. Never throws. */
export function verifyCompact(digest: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== 64 || (publicKey.length !== 33 && publicKey.length !== 65)) return false;
  try {
    return secp256k1.verify(signature, digest, publicKey, { prehash: false, lowS: true, format: 'compact' });
  } catch {
    return false;
  }
}

/** The EIP-55 address of a public key in 33 or 65 bytes. @throws SIGNATURE_INVALID for what is none */
export function addressOfKey(publicKey: Uint8Array): Address {
  try {
    return addressOfPublicKey(secp256k1.Point.fromBytes(publicKey).toBytes(false));
  } catch (cause) {
    throw new DstackError('SIGNATURE_INVALID', 'not a public key of secp256k1', { cause });
  }
}

export function keccak256(...parts: Uint8Array[]): Uint8Array {
  const hash = keccak_256.create();
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** EIP-55 mixed-case checksum. */
export function checksumAddress(bytes: Uint8Array): Address {
  const hex = toHex(bytes);
  const hash = toHex(keccak256(new TextEncoder().encode(hex)));
  const digits = [...hex].map((digit, i) =>
    Number.parseInt(hash[i]!, 16) >= 8 ? digit.toUpperCase() : digit,
  );
  return `0x${digits.join('')}` as Address;
}

function addressOfPublicKey(uncompressed: Uint8Array): Address {
  return checksumAddress(keccak256(uncompressed.subarray(1)).subarray(12));
}
