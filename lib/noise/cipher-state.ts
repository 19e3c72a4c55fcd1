/** One key of ChaCha20-Poly1305 and its counter (Noise section 5.1). What it sealed or opened once it never seals or opens again. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { DstackError } from '../protocol/errors.ts';

export const TAG_BYTES = 16;
const KEY_BYTES = 32;
/** Is for the next key alone (section 4.2). */
const LAST_NONCE = (1n << 64n) - 1n;
const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG_BYTES } as const;
const NOTHING = new Uint8Array();

export class CipherState {
  #key: Uint8Array;
  #nonce = 0n;

  /** @param key 32 bytes */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** How many messages it has sealed or opened. */
  get count(): bigint {
    return this.#nonce;
  }

  /** The ciphertext and its tag. @throws NOISE_NONCES */
  seal(plaintext: Uint8Array, associated: Uint8Array = NOTHING): Uint8Array {
    const sealed = encrypt(this.#key, this.#unused(), associated, plaintext);
    this.#nonce += 1n;
    return sealed;
  }

  /** @throws NOISE_REFUSED for anything but the next message that the other side sealed; then the counter stays. @throws NOISE_NONCES */
  open(sealed: Uint8Array, associated: Uint8Array = NOTHING): Uint8Array {
    const opened = decrypt(this.#key, this.#unused(), associated, sealed);
    this.#nonce += 1n;
    return opened;
  }

  /** Forgets the key for one that follows from it; who learns that can't read what was said before. The counter goes on (section 11.3). */
  rekey(): void {
    this.#key = encrypt(this.#key, LAST_NONCE, NOTHING, new Uint8Array(KEY_BYTES)).slice(0, KEY_BYTES);
  }

  #unused(): bigint {
    if (this.#nonce < LAST_NONCE) return this.#nonce;
    throw new DstackError('NOISE_NONCES', 'all numbers of messages are used up; connect again');
  }
}

function encrypt(key: Uint8Array, nonce: bigint, associated: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv(CIPHER, key, nonceBytes(nonce), OPTIONS);
  cipher.setAAD(associated, { plaintextLength: plaintext.length });
  const body = cipher.update(plaintext);
  cipher.final();
  return new Uint8Array(Buffer.concat([body, cipher.getAuthTag()]));
}

function decrypt(key: Uint8Array, nonce: bigint, associated: Uint8Array, sealed: Uint8Array): Uint8Array {
  const length = sealed.length - TAG_BYTES;
  if (length < 0) throw refused();
  const decipher = createDecipheriv(CIPHER, key, nonceBytes(nonce), OPTIONS);
  decipher.setAAD(associated, { plaintextLength: length });
  decipher.setAuthTag(sealed.subarray(length));
  try {
    return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(0, length)), decipher.final()]));
  } catch (cause) {
    throw refused(cause);
  }
}

/** Four zero bytes, then the number, little-endian (section 12.3). */
function nonceBytes(nonce: bigint): Uint8Array {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, nonce, true);
  return bytes;
}

function refused(cause?: unknown): DstackError {
  return new DstackError(
    'NOISE_REFUSED',
    'not what the other side sealed next: another network or secret, or changed, repeated or left out on the way',
    { cause },
  );
}
