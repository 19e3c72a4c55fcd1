/**
 * Values that only those can read who know one of the record's names, or were given a key. XChaCha20-Poly1305
 * (draft-irtf-cfrg-xchacha-03) under a key of HKDF-SHA256 (RFC 5869):
 *
 * `nonce (24) ‖ commitment (32) ‖ ciphertext ‖ tag (16)`, where `key (32) ‖ commitment (32)` =
 * `HKDF(mask key, salt = "dstack/v1", info = list of "record-value", nonce)`.
 *
 * The nonce is random, so each value has a key of its own and no keystream is used twice. Poly1305 alone would let a maker
 * write bytes that open under two keys to two values; the commitment is a hash of key and nonce, and there are no two keys with
 * the same. The record's head is authenticated with it: a value that is moved to another record does not open. The length of the
 * value shows.
 */
import { hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { lengthPrefixed, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { encodeHead } from './codec.ts';
import { MAX_VALUE_BYTES, type RecordHead } from './format.ts';

const NONCE_BYTES = 24;
const COMMITMENT_BYTES = 32;
const TAG_BYTES = 16;
const SALT = utf8('dstack/v1');

/** So many bytes is a masked value longer. */
export const MASK_BYTES = NONCE_BYTES + COMMITMENT_BYTES + TAG_BYTES;

/**
 * @param key the `maskKey` of the name that `head.mask` says, or 32 random bytes
 * @throws RECORD_VALUE, RECORD_MASK
 */
export function maskValue(key: Uint8Array, head: RecordHead, value: Uint8Array): Uint8Array {
  requireMaskKey(key);
  if (head.mask === 'none') {
    throw new DstackError('RECORD_MASK', 'the head says that its value is not masked; say by what it is');
  }
  const most = MAX_VALUE_BYTES - MASK_BYTES;
  if (value.length > most) {
    throw new DstackError(
      'RECORD_VALUE',
      `a masked value has up to ${most} bytes, not ${value.length}; split it`,
    );
  }
  const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
  const { encryption, commitment } = keysOf(key, nonce);
  const sealed = xchacha20poly1305(encryption, nonce, encodeHead(head)).encrypt(value);
  encryption.fill(0);
  return new Uint8Array(Buffer.concat([nonce, commitment, sealed]));
}

/** @throws RECORD_UNREADABLE when it is of another key or another record, or was changed */
export function unmaskValue(key: Uint8Array, head: RecordHead, masked: Uint8Array): Uint8Array {
  requireMaskKey(key);
  if (masked.length < MASK_BYTES) {
    throw new DstackError(
      'RECORD_UNREADABLE',
      `${masked.length} bytes are no masked value; it has ${MASK_BYTES} more`,
    );
  }
  const nonce = masked.subarray(0, NONCE_BYTES);
  const { encryption, commitment } = keysOf(key, nonce);
  const written = masked.subarray(NONCE_BYTES, NONCE_BYTES + COMMITMENT_BYTES);
  try {
    if (!timingSafeEqual(commitment, written)) {
      throw new DstackError(
        'RECORD_UNREADABLE',
        'the value is masked by another key; use the one it was masked by',
      );
    }
    const cipher = xchacha20poly1305(encryption, nonce, encodeHead(head));
    return cipher.decrypt(masked.subarray(NONCE_BYTES + COMMITMENT_BYTES));
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('RECORD_UNREADABLE', 'the value is of another record, or was changed', { cause });
  } finally {
    encryption.fill(0);
  }
}

function keysOf(key: Uint8Array, nonce: Uint8Array): { encryption: Uint8Array; commitment: Uint8Array } {
  const info = lengthPrefixed([utf8('record-value'), nonce]);
  const both = new Uint8Array(hkdfSync('sha256', key, SALT, info, 32 + COMMITMENT_BYTES));
  return { encryption: both.slice(0, 32), commitment: both.slice(32) };
}

function requireMaskKey(key: Uint8Array): void {
  if (key.length !== 32) throw new DstackError('RECORD_MASK', `a mask key has 32 bytes, not ${key.length}`);
}
