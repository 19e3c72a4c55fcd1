/**
 * Ed25519 keys as OpenSSL takes them. Making one costs a third of what the check of a signature does, and memory that V8 does not count, until it is collected: of
 * those who write many records, and of their names, it is made once.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';

/** Of a kilobyte or two each. */
export const MOST_KEYS = 512;
/** SubjectPublicKeyInfo up to the key (RFC 8410, section 4). */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** The one that was used last is last. */
const keys = new Map<string, KeyObject>();

/** @throws Error of Node's for what is no key */
export function verifyingKey(publicKey: Uint8Array): KeyObject {
  const name = Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.length).toString('latin1');
  const key =
    keys.get(name) ?? createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' });
  keys.delete(name);
  keys.set(name, key);
  if (keys.size > MOST_KEYS) keys.delete(keys.keys().next().value!);
  return key;
}
