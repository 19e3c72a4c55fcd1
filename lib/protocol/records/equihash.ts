/**
 * Equihash (Biryukov, Khovratovich: "Equihash: Asymmetric Proof-of-Work Based on the Generalized Birthday Problem", NDSS 2016)
 * with n = 96 and k = 5: find 32 different indices below 2^17 whose 96-bit hashes, XORed, are zero, in the way of Wagner's algorithm, so that after
 * each of its rounds 16 more leading bits are. A solution is checked by hashing 32 times.
 *
 * Hash `i` is the 12 bytes at `12 (i mod 5)` of BLAKE2b (RFC 7693) with 60 bytes of output, personalised by "DstackPW", n and k as 32 bits
 * little-endian, over `seed (32) ‖ nonce (16) ‖ ⌊i / 5⌋ as 32 bits little-endian`. A solution is its indices as 17 bits each, big-endian, 68
 * bytes; of two halves of any subtree the one with the smaller first index comes first, so that a solution has one spelling.
 */
import { blake2b } from '@noble/hashes/blake2.js';
import { utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { NONCE_BYTES, SOLUTION_BYTES } from './format.ts';

const N = 96;
export const ROUNDS = 5;
/** Words of 16 bits: so many bits become zero in a round, and one more than rounds make a hash. */
export const WORDS = ROUNDS + 1;
const INDEX_BITS = 17;
export const INDICES = 1 << INDEX_BITS;
const LEAVES = 1 << ROUNDS;
const HASHES_PER_CALL = 5;
const HASH_BYTES = N / 8;
const SEED_BYTES = 32;

const OPTIONS = {
  dkLen: HASHES_PER_CALL * HASH_BYTES,
  personalization: Uint8Array.from([...utf8('DstackPW'), N, 0, 0, 0, ROUNDS, 0, 0, 0]),
};

/** Five hashes at a time, as words. */
export class HashSource {
  readonly #input = Buffer.alloc(SEED_BYTES + NONCE_BYTES + 4);

  /** @throws RECORD_WORK_INPUT */
  constructor(seed: Uint8Array, nonce: Uint8Array) {
    if (seed.length !== SEED_BYTES || nonce.length !== NONCE_BYTES) {
      throw new DstackError('RECORD_WORK_INPUT', `a seed has ${SEED_BYTES} bytes and a nonce ${NONCE_BYTES}`);
    }
    this.#input.set(seed);
    this.#input.set(nonce, SEED_BYTES);
  }

  /** The hashes `5 call` to `5 call + 4`, 12 bytes each. */
  call(call: number): Uint8Array {
    this.#input.writeUInt32LE(call, SEED_BYTES + NONCE_BYTES);
    return blake2b(this.#input, OPTIONS);
  }

  /** Writes as many hashes as fit, from index 0 on, as words to `out`. */
  fill(out: Uint16Array): void {
    const count = out.length / WORDS;
    for (let call = 0, index = 0; index < count; call++) {
      const bytes = this.call(call);
      for (let i = 0; i < HASHES_PER_CALL && index < count; i++, index++) {
        writeWords(bytes, i * HASH_BYTES, out, index * WORDS);
      }
    }
  }

  writeHash(index: number, out: Uint16Array, offset: number): void {
    const bytes = this.call(Math.floor(index / HASHES_PER_CALL));
    writeWords(bytes, (index % HASHES_PER_CALL) * HASH_BYTES, out, offset);
  }
}

/** Whether it is a solution, in its one spelling. About 0.15 ms. */
export function isSolution(seed: Uint8Array, nonce: Uint8Array, solution: Uint8Array): boolean {
  if (solution.length !== SOLUTION_BYTES) return false;
  const indices = unpackIndices(solution);
  // Before any hashing: equal indices cancel out, and any set of hashes would do.
  if (!isOrdered(indices) || new Set(indices).size !== LEAVES) return false;
  const source = new HashSource(seed, nonce);
  const words = new Uint16Array(LEAVES * WORDS);
  for (const [leaf, index] of indices.entries()) source.writeHash(index, words, leaf * WORDS);
  for (let round = 1; round <= ROUNDS; round++) {
    const width = 1 << round;
    for (let at = 0; at < LEAVES; at += width) {
      xorInto(words, at * WORDS, (at + width / 2) * WORDS);
      // Each round has to make one more word zero, and the last one all.
      const zeros = round === ROUNDS ? WORDS : round;
      for (let word = 0; word < zeros; word++) if (words[at * WORDS + word] !== 0) return false;
    }
  }
  return true;
}

/** 32 indices as 68 bytes. */
export function packIndices(indices: readonly number[]): Uint8Array {
  const bits = indices.map((index) => index.toString(2).padStart(INDEX_BITS, '0')).join('');
  return Uint8Array.from({ length: SOLUTION_BYTES }, (_, i) =>
    Number.parseInt(bits.slice(i * 8, i * 8 + 8), 2),
  );
}

export function unpackIndices(solution: Uint8Array): number[] {
  const bits = Array.from(solution, (byte) => byte.toString(2).padStart(8, '0')).join('');
  return Array.from({ length: LEAVES }, (_, i) =>
    Number.parseInt(bits.slice(i * INDEX_BITS, (i + 1) * INDEX_BITS), 2),
  );
}

function isOrdered(indices: readonly number[]): boolean {
  for (let width = 1; width < LEAVES; width *= 2) {
    for (let at = 0; at < LEAVES; at += 2 * width) if (indices[at]! >= indices[at + width]!) return false;
  }
  return true;
}

function xorInto(words: Uint16Array, to: number, from: number): void {
  for (let word = 0; word < WORDS; word++) words[to + word]! ^= words[from + word]!;
}

function writeWords(bytes: Uint8Array, from: number, out: Uint16Array, to: number): void {
  for (let word = 0; word < WORDS; word++) {
    out[to + word] = (bytes[from + 2 * word]! << 8) | bytes[from + 2 * word + 1]!;
  }
}
