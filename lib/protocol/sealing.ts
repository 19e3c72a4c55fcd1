/**
 * Sealing the network secret to one new node: HPKE base mode (RFC 9180) over X-Wing (X25519 + ML-KEM-768,
 * draft-connolly-cfrg-xwing-kem), HKDF-SHA256, AES-256-GCM. `info` is the request hash, so an answer opens for exactly
 * the request that it was made for. Sealed bytes are `enc (1120) ‖ ciphertext (32) ‖ tag (16)` = 1168.
 */
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';
import { sha256 } from './encoding.ts';
import { DstackError } from './errors.ts';

export const KEM_PUBLIC_KEY_BYTES = 1216;
export const SEALED_BYTES = 1168;
const ENCAPSULATION_BYTES = 1120;

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

/** Seals a 32-byte secret to a KEM public key of 1,216 bytes. */
export async function seal(
  secret: Uint8Array,
  kemPublicKey: Uint8Array,
  requestHash: Uint8Array,
): Promise<Uint8Array> {
  if (kemPublicKey.length !== KEM_PUBLIC_KEY_BYTES) {
    throw new DstackError(
      'KEM_KEY',
      `a KEM public key has ${KEM_PUBLIC_KEY_BYTES} bytes, not ${kemPublicKey.length}`,
    );
  }
  const cipher = suite();
  try {
    const context = await cipher.createSenderContext({
      recipientPublicKey: await cipher.kem.deserializePublicKey(buffer(kemPublicKey)),
      info: buffer(requestHash),
    });
    const ciphertext = new Uint8Array(await context.seal(buffer(secret)));
    return Uint8Array.from([...new Uint8Array(context.enc), ...ciphertext]);
  } catch (cause) {
    throw new DstackError('KEM_KEY', 'the request has a KEM public key that cannot be used', { cause });
  }
}

/** answerHash: over the sealed bytes; its top 248 bits end up in the contract's slot. */
export function answerHash(sealed: Uint8Array): Uint8Array {
  return sha256(sealed);
}

/** A copy with an ArrayBuffer of its own, as WebCrypto's types ask for. */
function buffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
