/**
 * A value that is longer than a network's records may have: its parts are records of their own, and the record under the names has their list.
 *
 *     list  00 ‖ "dstack-parts-1" ‖ length of the whole (6) ‖ SHA-256 of the whole (32) ‖ identity of each part's record (32 each)
 *
 * An identity covers its value by hash: whoever has the list can be given no other parts, by whomever they are given.
 */
import { fromHex, sha256, toHex } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { ID_BYTES } from './format.ts';
import { MASK_BYTES } from './mask.ts';

const MAGIC = Buffer.from('\0dstack-parts-1', 'latin1');
const HEAD_BYTES = MAGIC.length + 6 + 32;

export interface PartList {
  /** Of the whole, in bytes. */
  readonly length: number;
  readonly hash: Uint8Array;
  /** Identities of the parts' records, in hex, in the order of the whole, each once: else one small record would be read as 2,000 times another. */
  readonly parts: readonly string[];
}

/** Bytes of each part but the last, and how many there may be, where records have values of so many bytes. */
export function partSizes(maxValue: number): { readonly part: number; readonly parts: number } {
  const part = maxValue - MASK_BYTES;
  return { part, parts: Math.max(0, Math.floor((part - HEAD_BYTES) / ID_BYTES)) };
}

/** What would be read as a list has to be one. */
export const looksLikeParts = (value: Uint8Array): boolean =>
  Buffer.compare(value.subarray(0, MAGIC.length), MAGIC) === 0;

export function encodePartList({ length, hash, parts }: PartList): Uint8Array {
  const size = Buffer.alloc(6);
  size.writeUIntBE(length, 0, 6);
  return new Uint8Array(Buffer.concat([MAGIC, size, hash, ...parts.map((id) => fromHex(id, ID_BYTES))]));
}

/** Whether a value says to be the list of this whole. */
export function isListOf(list: Uint8Array, whole: Uint8Array): boolean {
  if (!looksLikeParts(list)) return false;
  return Buffer.compare(list.subarray(HEAD_BYTES - 32, HEAD_BYTES), sha256(whole)) === 0;
}

/** Undefined for a value that is none. @throws RECORD_PARTS for one that begins as a list, and is none of this network's sizes */
export function partListOf(value: Uint8Array, maxValue: number): PartList | undefined {
  if (!looksLikeParts(value)) return undefined;
  const bytes = Buffer.from(value);
  const { part, parts: most } = partSizes(maxValue);
  const count = (bytes.length - HEAD_BYTES) / ID_BYTES;
  if (Number.isInteger(count) && count >= 1 && count <= most) {
    const length = bytes.readUIntBE(MAGIC.length, 6);
    if (Math.ceil(length / part) === count) {
      const hash = value.slice(HEAD_BYTES - 32, HEAD_BYTES);
      const idAt = (i: number) =>
        toHex(value.subarray(HEAD_BYTES + i * ID_BYTES, HEAD_BYTES + (i + 1) * ID_BYTES));
      const parts = Array.from({ length: count }, (_, i) => idAt(i));
      if (new Set(parts).size === count) return { length, hash, parts };
    }
  }
  throw new DstackError(
    'RECORD_PARTS',
    'a value begins as a list of parts and is none; it was not written by `records set`',
  );
}

/**
 * Puts a whole together as its parts come: no more is kept than the list says, and what does not fit is refused before the next one is asked for. A part is bytes
 * of the whole, even if it looks like a list itself.
 */
export class Whole {
  readonly #list: PartList;
  readonly #part: number;
  readonly #bytes: Uint8Array;
  #end = 0;

  constructor(list: PartList, maxValue: number) {
    this.#list = list;
    this.#part = partSizes(maxValue).part;
    this.#bytes = new Uint8Array(list.length);
  }

  /** @throws RECORD_PARTS for one of another length than its place has */
  add(part: Uint8Array): void {
    if (part.length !== Math.min(this.#part, this.#bytes.length - this.#end)) throw badParts();
    this.#bytes.set(part, this.#end);
    this.#end += part.length;
  }

  /** @throws RECORD_PARTS unless the parts make the whole that the list says */
  finish(): Uint8Array {
    if (this.#end === this.#bytes.length && Buffer.compare(sha256(this.#bytes), this.#list.hash) === 0)
      return this.#bytes;
    throw badParts();
  }
}

function badParts(): DstackError {
  return new DstackError(
    'RECORD_PARTS',
    'the parts of a value do not make what their list says; its writer made them so',
  );
}
