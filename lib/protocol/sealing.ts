/**
 * Sealing the network secret to one new node: HPKE base mode (RFC 9180) over X-Wing (X25519 + ML-KEM-768,
 * draft-connolly-cfrg-xwing-kem), HKDF-SHA256, AES-256-GCM. `info` is the request hash, so an answer opens for exactly
 * the request that it was made for. Sealed bytes are `enc (1120) ‖ ciphertext (32) ‖ tag (16)` = 1168.
 *
 * Sealing is deterministic: the encapsulation's 64 bytes of randomness (the draft's `eseed` of EncapsulateDerand: 32 for
 * ML-KEM-768, 32 for X25519) are `HKDF-SHA256(secret, "dstack/v1", list of "seal", epoch, request hash, SHA-256 of the KEM
 * public key)`. So every node that has the secret makes the same bytes, and their hash can be on chain before any node
 * gives them out. Vectors: testdata/protocol/sealing.json. Why that is sound:
 *
 * - The secret has 256 uniform bits. With HKDF as a random oracle, who never asks it about the secret itself can't tell
 *   these bytes from fresh ones, so to them each answer is an ordinary HPKE encryption; and that the plaintext is also the
 *   key of the derivation (as in encrypt-with-hash, Bellare, Boldyreva, O'Neill 2007) helps only who guesses it.
 * - "seal" comes first in the list, so no other purpose of keys.ts shares an output; a list has one encoding.
 * - Randomness is never shared by two encapsulations that differ. It depends on all that they can differ in: secret and
 *   epoch, the request's hash (also HPKE's `info`), and the KEM key, which the request's hash covers already (kemKeyHash):
 *   two keys under one hash would be a collision of SHA-256 or keccak. The same request again is the same bytes again,
 *   under the same AEAD key and nonce with the same plaintext, which reveals nothing.
 * - Who opens an answer learns ML-KEM's 32 bytes of it (decapsulation recovers them). They have the secret by then.
 * - The answer's hash, on chain before the answer is out, confirms a guess of the secret; so does the network key's address.
 */
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';
import { bytesEqual, sha256 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { sealingRandomness } from './keys.ts';

export const KEM_PUBLIC_KEY_BYTES = 1216;
export const SEALED_BYTES = 1168;
export const ENCAPSULATION_BYTES = 1120;

const suite = () => new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });

/** A one-time KEM key pair: the private part stays an opaque handle that never serialises. */
export interface KemKeyPair {
  publicKey: Uint8Array;
  open(sealed: Uint8Array, requestHash: Uint8Array): Promise<Uint8Array>;
}

export async function newKemKeyPair(): Promise<KemKeyPair> {
  const cipher = suite();
  const pair = await cipher.kem.generateKeyPair();
  const publicKey = new Uint8Array(await cipher.kem.serializePublicKey(pair.publicKey));
  return {
    publicKey,
    async open(sealed, requestHash) {
      if (sealed.length !== SEALED_BYTES) {
        throw new DstackError(
          'SEALED_LENGTH',
          `a sealed secret has ${SEALED_BYTES} bytes, this has ${sealed.length}`,
        );
      }
      try {
        const context = await cipher.createRecipientContext({
          recipientKey: pair.privateKey,
          enc: buffer(sealed.subarray(0, ENCAPSULATION_BYTES)),
          info: buffer(requestHash),
        });
        return new Uint8Array(await context.open(buffer(sealed.subarray(ENCAPSULATION_BYTES))));
      } catch (cause) {
        throw new DstackError('SEALED_UNOPENABLE', 'the answer was not sealed to this request', { cause });
      }
    },
  };
}

/**
 * Seals the 32-byte secret of an epoch to a KEM public key of 1,216 bytes. The same arguments give the same bytes.
 * @throws KEM_KEY, KEY_SECRET
 */
export async function seal(
  secret: Uint8Array,
  epoch: number,
  kemPublicKey: Uint8Array,
  requestHash: Uint8Array,
): Promise<Uint8Array> {
  if (kemPublicKey.length !== KEM_PUBLIC_KEY_BYTES) {
    throw new DstackError(
      'KEM_KEY',
      `a KEM public key has ${KEM_PUBLIC_KEY_BYTES} bytes, not ${kemPublicKey.length}`,
    );
  }
  const randomness = sealingRandomness(secret, epoch, requestHash, kemPublicKey);
  const cipher = suite();
  try {
    const context = await cipher.createSenderContext({
      recipientPublicKey: await cipher.kem.deserializePublicKey(buffer(kemPublicKey)),
      info: buffer(requestHash),
      // The library's name for EncapsulateDerand's eseed. It says that this is for tests because whoever uses the same bytes
      // for two messages loses both; above is why these never are. That it means the draft's eseed, a test holds it to.
      ekm: randomness,
    });
    const ciphertext = new Uint8Array(await context.seal(buffer(secret)));
    return Uint8Array.from([...new Uint8Array(context.enc), ...ciphertext]);
  } catch (cause) {
    throw new DstackError('KEM_KEY', 'the request has a KEM public key that cannot be used', { cause });
  } finally {
    randomness.fill(0);
  }
}

/** answerHash: over the sealed bytes; its top 248 bits end up in the contract's slot. */
export function answerHash(sealed: Uint8Array): Uint8Array {
  return sha256(sealed);
}

/** Whether the contract's slot is of this answer. @param recorded as the contract shows it: 32 bytes, the last one zero */
export function isRecordedAnswer(hash: Uint8Array, recorded: Uint8Array): boolean {
  return hash.length === 32 && bytesEqual(hash.subarray(0, 31), recorded.subarray(0, 31));
}

/** A copy with an ArrayBuffer of its own, as WebCrypto's types require. */
function buffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
