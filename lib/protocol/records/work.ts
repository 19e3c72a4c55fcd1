/**
 * Proof of work for a record: a solution of Equihash whose hash is below a target. The price is by the bytes that every node has to store.
 *
 * It slows abuse by who has ordinary machines. Graphics cards solve Equihash with these parameters hundreds of times faster than a processor does, so
 * work is no proof of anything else: trust is carried by certificates and by what a reader knows (trust.ts).
 */
import { randomBytes } from 'node:crypto';
import { lengthPrefixed, sha256, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { encodeHead } from './codec.ts';
import { isSolution } from './equihash.ts';
import { EquihashSolver } from './equihash-solver.ts';
import { type DagRecord, NONCE_BYTES, type Permit, valueLength } from './format.ts';
import { bodyHash, workSeed } from './identity.ts';
import { SIGNATURE_BYTES } from './strict-ed25519.ts';

export type WorkPermit = Extract<Permit, { kind: 'work' }>;

/** What a record is charged for: all of it but the permit, and the value whether it is there or pruned. */
export function billableBytes(record: Omit<DagRecord, 'permit' | 'signature'>): number {
  const claims = record.claims.length * SIGNATURE_BYTES;
  return encodeHead(record).length + valueLength(record.value) + claims + SIGNATURE_BYTES;
}

/** The difficulty that so many bytes need. @param bytesPerSolution of the genesis */
export function priceOf(bytes: number, bytesPerSolution: number): number {
  return Math.ceil(bytes / bytesPerSolution);
}

/** What work is charged for a record by is the difficulty that it names; this is whether it was done. About 0.15 ms. @throws RECORD_WORK */
export function verifyWork(record: DagRecord, permit: WorkPermit): void {
  const { difficulty, nonce, solution } = permit;
  const seed = workSeed(bodyHash(record, record.value), record.claims, difficulty);
  // One hash before thirty-two.
  if (!isBelowTarget(seed, nonce, solution, difficulty) || !isSolution(seed, nonce, solution)) {
    throw new DstackError(
      'RECORD_WORK',
      `no work of difficulty ${difficulty} was done for this record; do it again`,
    );
  }
}

export interface WorkProgress {
  /** Solutions found so far; each is good enough with a chance of 1 in `difficulty`, whatever came before. */
  readonly solutions: number;
  readonly nonces: number;
}

export interface SolveOptions {
  /** 16 bytes; counted up from. Absent: random, so that workers that do the same do not repeat each other. */
  readonly firstNonce?: Uint8Array;
  /** Asked before each nonce, about 15 times a second. In a worker: reads a flag in shared memory. */
  readonly isCancelled?: () => boolean;
  readonly onProgress?: (progress: WorkProgress) => void;
}

/**
 * Does the work; returns when it is done, so it belongs into a worker thread. It takes as many solutions as the difficulty says on average, and
 * ten times as many once in 22,000.
 * @param seed of `workSeed` with this difficulty
 * @throws RECORD_WORK_CANCELLED, RECORD_WORK_INPUT
 */
export function solveWork(seed: Uint8Array, difficulty: number, options: SolveOptions = {}): WorkPermit {
  const solver = new EquihashSolver();
  let nonce = options.firstNonce ?? new Uint8Array(randomBytes(NONCE_BYTES));
  for (let nonces = 0, solutions = 0; ; nonces++) {
    if (options.isCancelled?.()) {
      throw new DstackError('RECORD_WORK_CANCELLED', `work was cancelled after ${solutions} solutions`);
    }
    const found = solver.solutions(seed, nonce);
    const good = found.find((solution) => isBelowTarget(seed, nonce, solution, difficulty));
    if (good !== undefined) return { kind: 'work', difficulty, nonce, solution: good };
    solutions += found.length;
    options.onProgress?.({ solutions, nonces: nonces + 1 });
    nonce = nextNonce(nonce);
  }
}

/** The first 64 bits of a hash, as a number, times the difficulty, are below 2^64. */
function isBelowTarget(
  seed: Uint8Array,
  nonce: Uint8Array,
  solution: Uint8Array,
  difficulty: number,
): boolean {
  const hash = sha256(lengthPrefixed([utf8('dstack/v1/record-work-target'), seed, nonce, solution]));
  return Buffer.from(hash).readBigUInt64BE() * BigInt(difficulty) < 1n << 64n;
}

function nextNonce(nonce: Uint8Array): Uint8Array {
  const next = Buffer.from(nonce);
  // The first half says which worker it is, by chance; the second counts.
  next.writeBigUInt64BE(BigInt.asUintN(64, next.readBigUInt64BE(8) + 1n), 8);
  return new Uint8Array(next);
}
