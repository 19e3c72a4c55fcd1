/** The chaining key, and the hash of all that both sides have said (Noise section 5.2). */
import { hkdfSync } from 'node:crypto';
import { sha256, utf8 } from '../protocol/encoding.ts';
import { CipherState } from './cipher-state.ts';

export const HASH_BYTES = 32;

export class SymmetricState {
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  /** None before the first key is mixed in: until then things travel in the clear. */
  #cipher: CipherState | undefined;

  constructor(protocolName: string) {
    const name = utf8(protocolName);
    // A name of up to 32 bytes stands for itself, filled up with zeros.
    this.#hash = name.length <= HASH_BYTES ? padded(name) : sha256(name);
    this.#chainingKey = this.#hash;
  }

  /** Of the whole handshake, once it is over (section 11.2). */
  get hash(): Uint8Array {
    return this.#hash;
  }

  mixHash(data: Uint8Array): void {
    this.#hash = sha256(this.#hash, data);
  }

  mixKey(material: Uint8Array): void {
    const [chainingKey, key] = this.#derive(material, 2);
    this.#chainingKey = chainingKey!;
    this.#cipher = new CipherState(key!);
  }

  mixKeyAndHash(material: Uint8Array): void {
    const [chainingKey, hashed, key] = this.#derive(material, 3);
    this.#chainingKey = chainingKey!;
    this.mixHash(hashed!);
    this.#cipher = new CipherState(key!);
  }

  sealAndHash(plaintext: Uint8Array): Uint8Array {
    const sealed = this.#cipher?.seal(plaintext, this.#hash) ?? plaintext;
    this.mixHash(sealed);
    return sealed;
  }

  /** @throws NOISE_REFUSED */
  openAndHash(sealed: Uint8Array): Uint8Array {
    const plaintext = this.#cipher?.open(sealed, this.#hash) ?? sealed;
    this.mixHash(sealed);
    return plaintext;
  }

  /** What the initiator seals with, then what the responder does. */
  split(): readonly [CipherState, CipherState] {
    const [first, second] = this.#derive(new Uint8Array(), 2);
    return [new CipherState(first!), new CipherState(second!)];
  }

  /** HKDF of section 4.3, which is RFC 5869's with the chaining key as salt and no info. */
  #derive(material: Uint8Array, outputs: number): Uint8Array[] {
    const all = new Uint8Array(hkdfSync('sha256', material, this.#chainingKey, '', outputs * HASH_BYTES));
    return Array.from({ length: outputs }, (_, i) => all.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES));
  }
}

function padded(name: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES);
  bytes.set(name);
  return bytes;
}
