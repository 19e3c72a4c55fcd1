/**
 * A file that is known by its SHA-256 alone, part by part, without trust in a list of parts. SHA-256 goes through a file block by block, and all that
 * it carries from one to the next is a state of 32 bytes (FIPS 180-4, section 6.2). So the last part, with the state before it, has to end in
 * the file's digest; that state is then known to be right, and is what the part before has to end in; and so on, back to the first part, before which is
 * the state that SHA-256 begins with. Whoever gives another part or state would have to have found a second preimage of the compression
 * function. Nothing rests on that but when a liar is found out: the whole file is hashed as any other before it is used.
 */
import { _SHA256 } from '@noble/hashes/sha2.js';
import { DstackError } from './errors.ts';

/** A whole number of blocks of SHA-256, and with the state before it well within one message of the records' wire. */
export const PART_BYTES = 65_536;
export const STATE_BYTES = 32;

/** How many parts a file of this length has: one at least, which is empty for an empty file. */
export const partsOf = (length: number): number => Math.max(1, Math.ceil(length / PART_BYTES));

/** How many bytes a part has, counted from 0. */
export const sizeOfPart = (length: number, part: number): number =>
  Math.min(PART_BYTES, length - part * PART_BYTES);

/** A part of a file, and what SHA-256 has come to before it. */
export interface FilePart {
  readonly state: Uint8Array;
  readonly bytes: Uint8Array;
}

/**
 * Requires that this is the last part of the file with this digest, of this length.
 * @param length of the whole file, which its digest covers, too
 * @throws PART_MISMATCH
 */
export function requireLastPart(part: FilePart, length: number, digest: Uint8Array): void {
  const last = partsOf(length) - 1;
  if (part.bytes.length !== sizeOfPart(length, last)) throw mismatch();
  requireStart(part, last);
  requireSame(
    Hashing.after(part.state, last * PART_BYTES)
      .update(part.bytes)
      .digest(),
    digest,
  );
}

/**
 * Requires that this is the part, counted from 0, before one whose state is known. It is none that is the last.
 * @throws PART_MISMATCH
 */
export function requirePartBefore(part: FilePart, index: number, next: Uint8Array): void {
  if (part.bytes.length !== PART_BYTES) throw mismatch();
  requireStart(part, index);
  requireSame(stateAfter(part.state, part.bytes), next);
}

/** What SHA-256 has come to after these bytes, a whole number of blocks. */
export const stateAfter = (state: Uint8Array, bytes: Uint8Array): Uint8Array =>
  Hashing.after(state, 0).update(bytes).state();

function requireStart({ state }: FilePart, index: number): void {
  if (index === 0) requireSame(state, FIRST_STATE);
}

function requireSame(found: Uint8Array, expected: Uint8Array): void {
  if (!Buffer.from(found).equals(expected)) throw mismatch();
}

const mismatch = (): DstackError =>
  new DstackError('PART_MISMATCH', 'this part is not one of the file with that SHA-256: ask somebody else');

/** A hash that begins anywhere. The class of the library is the streaming one of its public `sha256`, with its state in reach. */
class Hashing extends _SHA256 {
  static after(state: Uint8Array, length: number): Hashing {
    const hashing = new Hashing();
    const view = new DataView(state.buffer, state.byteOffset, STATE_BYTES);
    const words = Array.from({ length: 8 }, (_, i) => view.getInt32(4 * i)) as Parameters<Hashing['set']>;
    hashing.set(...words);
    hashing.length = length;
    return hashing;
  }

  state(): Uint8Array {
    return bytesOf(this.get());
  }
}

function bytesOf(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(STATE_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setInt32(4 * i, word);
  return bytes;
}

/** The state before the first part. */
export const FIRST_STATE: Uint8Array = new Hashing().state();
