/** X25519 (RFC 7748; Noise section 12.1). */
import {
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { DstackError } from '../protocol/errors.ts';

export const KEY_BYTES = 32;
/** DER before a raw key of 32 bytes (RFC 8410). The private one as numbers: in hex it would look like a key to whoever searches an image for keys. */
const PRIVATE = Buffer.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20]);
const PUBLIC = Buffer.from('302a300506032b656e032100', 'hex');

export interface KeyPair {
  readonly privateKey: KeyObject;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

export function freshKeyPair(): KeyPair {
  return withPublic(generateKeyPairSync('x25519').privateKey);
}

/** @param seed the private key, 32 bytes. @throws NOISE_KEY */
export function keyPairOf(seed: Uint8Array): KeyPair {
  requireKeyLength(seed);
  return withPublic(createPrivateKey({ key: Buffer.concat([PRIVATE, seed]), format: 'der', type: 'pkcs8' }));
}

/**
 * What both sides can know and nobody else, 32 bytes.
 * @throws NOISE_KEY for a point of small order, with which the result would be known to everybody (Noise section 12.1 leaves it open; here it
 *   ends the handshake)
 */
export function agree({ privateKey }: KeyPair, remote: Uint8Array): Uint8Array {
  requireKeyLength(remote);
  const publicKey = createPublicKey({ key: Buffer.concat([PUBLIC, remote]), format: 'der', type: 'spki' });
  try {
    // OpenSSL refuses a result of zeros.
    return new Uint8Array(diffieHellman({ privateKey, publicKey }));
  } catch (cause) {
    throw new DstackError(
      'NOISE_KEY',
      'the key of the other side is a point of small order; it has to send a real one',
      {
        cause,
      },
    );
  }
}

function withPublic(privateKey: KeyObject): KeyPair {
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return { privateKey, publicKey: new Uint8Array(spki.subarray(-KEY_BYTES)) };
}

function requireKeyLength(key: Uint8Array): void {
  if (key.length === KEY_BYTES) return;
  throw new DstackError('NOISE_KEY', `an X25519 key has ${KEY_BYTES} bytes, not ${key.length}`);
}
