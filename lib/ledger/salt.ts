/** The salts of the ledger's commitments. */
import { sha256Of } from './merkle.ts';

const BLOCK_BYTES = 64;

/** The salt of each event, 32 bytes. */
export interface Salts {
  salt(revision: bigint, index: number): Uint8Array;
}

/**
 * salt = HMAC-SHA256(key, revision as 8 bytes ‖ index as 4 bytes), both big-endian. HMAC as RFC 2104 writes it, because node:crypto takes
 * some 25 µs to set one up, and two hashes take 3.
 */
export class SaltKey implements Salts {
  readonly #inner = Buffer.alloc(BLOCK_BYTES + 12, 0x36);
  readonly #outer = Buffer.alloc(BLOCK_BYTES + 32, 0x5c);

  /** @param key 32 bytes (ledgerSaltKey, lib/protocol/keys.ts) */
  constructor(key: Uint8Array) {
    key.forEach((byte, at) => {
      this.#inner[at] = byte ^ 0x36;
      this.#outer[at] = byte ^ 0x5c;
    });
  }

  salt(revision: bigint, index: number): Uint8Array {
    this.#inner.writeBigUInt64BE(revision, BLOCK_BYTES);
    this.#inner.writeUInt32BE(index, BLOCK_BYTES + 8);
    this.#outer.set(sha256Of(this.#inner), BLOCK_BYTES);
    return sha256Of(this.#outer);
  }
}

/** Those of a log that continues an earlier one, whose leaves up to a revision have the earlier one's. */
export function saltsAfter(earlier: Salts, until: bigint, own: Salts): Salts {
  return { salt: (revision, index) => (revision <= until ? earlier : own).salt(revision, index) };
}
