/**
 * The items of all members in their order, with what fingerprints are made of. A set never changes: with new items there is a new one, which
 * shares what it can, so that a reconciliation of many rounds is of one state and costs no copy.
 *
 * Items lie in pieces of up to 256, each with the sum of its identities. A fingerprint adds up two pieces at most, whatever the size of the range;
 * an insertion copies one piece and the list of pieces.
 */
import { sha256 } from '../../encoding.ts';
import { PLACE_BYTES } from './places.ts';
import { encodeVarint } from './varint.ts';

export const FINGERPRINT_BYTES = 16;
const MAX_PIECE = 256;
/** 32-bit words: of a sum, of a place before its identity, of a place. */
const SUM_WORDS = 8;
const TIME_WORDS = 2;
const PLACE_WORDS = PLACE_BYTES / 4;

interface Piece {
  /** Places, one after the other. */
  readonly packed: Uint8Array;
  readonly count: number;
  readonly sum: Uint32Array;
}

export class ItemSet {
  readonly #pieces: readonly Piece[];
  /** How many items stand before each piece; the last is the number of all. */
  readonly #before: readonly number[];
  /** The sum of all pieces before each, `SUM_WORDS` for each; made when it is first needed. */
  #sums: Uint32Array | undefined;

  static readonly empty = new ItemSet([]);

  private constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces;
    const before = [0];
    for (const { count } of pieces) before.push(before.at(-1)! + count);
    this.#before = before;
  }

  get count(): number {
    return this.#before.at(-1)!;
  }

  /** @param places of new items, in any order; those that are there already are no second time */
  with(places: readonly Uint8Array[]): ItemSet {
    if (places.length === 0) return this;
    const sorted = places.toSorted(Buffer.compare);
    const pieces: Piece[] = [];
    let next = 0;
    for (const [i, piece] of this.#pieces.entries()) {
      const following = this.#pieces[i + 1];
      const first = next;
      while (
        next < sorted.length &&
        (following === undefined || Buffer.compare(sorted[next]!, placeIn(following, 0)) < 0)
      ) {
        next += 1;
      }
      if (first === next) pieces.push(piece);
      else pieces.push(...piecesOf(merged(piece, sorted.slice(first, next))));
    }
    if (this.#pieces.length === 0) pieces.push(...piecesOf(merged(undefined, sorted)));
    return new ItemSet(pieces);
  }

  /** The place of an item, which must not be changed. */
  at(index: number): Uint8Array {
    const piece = lastAtMost(this.#before, index);
    return placeIn(this.#pieces[piece]!, index - this.#before[piece]!);
  }

  has(place: Uint8Array): boolean {
    const index = this.below(place);
    return index < this.count && Buffer.compare(this.at(index), place) === 0;
  }

  /** How many items are below a place. */
  below(place: Uint8Array): number {
    let [low, high] = [0, this.#pieces.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (Buffer.compare(placeIn(this.#pieces[middle]!, 0), place) < 0) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    const piece = this.#pieces[low - 1]!;
    let [from, to] = [0, piece.count];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (Buffer.compare(placeIn(piece, middle), place) < 0) from = middle + 1;
      else to = middle;
    }
    return this.#before[low - 1]! + from;
  }

  /** "Fingerprint Algorithm": of the items from `from` on, before `to`. */
  fingerprint(from: number, to: number): Uint8Array {
    const sum = this.#sumBefore(to);
    subtract(sum, this.#sumBefore(from));
    const bytes = new Uint8Array(sum.buffer);
    return sha256(bytes, encodeVarint(to - from)).subarray(0, FINGERPRINT_BYTES);
  }

  #sumBefore(index: number): Uint32Array {
    const sums = this.#sums ?? this.#sumUp();
    const piece = Math.min(lastAtMost(this.#before, index), this.#pieces.length);
    const sum = sums.slice(piece * SUM_WORDS, (piece + 1) * SUM_WORDS);
    const rest = index - this.#before[piece]!;
    if (rest > 0) addIdentities(sum, this.#pieces[piece]!.packed, rest);
    return sum;
  }

  #sumUp(): Uint32Array {
    const sums = new Uint32Array((this.#pieces.length + 1) * SUM_WORDS);
    const sum = new Uint32Array(SUM_WORDS);
    for (const [i, piece] of this.#pieces.entries()) {
      add(sum, piece.sum, 0);
      sums.set(sum, (i + 1) * SUM_WORDS);
    }
    this.#sums = sums;
    return sums;
  }
}

/** The last index whose value is at most `value`; values ascend, and the first is 0. */
function lastAtMost(values: readonly number[], value: number): number {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (values[middle]! <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

function placeIn({ packed }: Piece, index: number): Uint8Array {
  return packed.subarray(index * PLACE_BYTES, (index + 1) * PLACE_BYTES);
}

/** All of both in their order, each once. */
function merged(piece: Piece | undefined, sorted: readonly Uint8Array[]): Uint8Array[] {
  const own = Array.from({ length: piece?.count ?? 0 }, (_, i) => placeIn(piece!, i));
  const all = [...own, ...sorted].sort(Buffer.compare);
  return all.filter((place, i) => i === 0 || Buffer.compare(place, all[i - 1]!) !== 0);
}

/** One piece, or more that are half full: what comes in next does not divide them again at once. */
function piecesOf(places: readonly Uint8Array[]): Piece[] {
  if (places.length <= MAX_PIECE) return [pieceOf(places)];
  const count = Math.ceil(places.length / (MAX_PIECE / 2));
  const size = Math.ceil(places.length / count);
  return Array.from({ length: Math.ceil(places.length / size) }, (_, i) =>
    pieceOf(places.slice(i * size, (i + 1) * size)),
  );
}

function pieceOf(places: readonly Uint8Array[]): Piece {
  // Memory of its own, so that it can be read as words.
  const packed = new Uint8Array(places.length * PLACE_BYTES);
  for (const [i, place] of places.entries()) packed.set(place, i * PLACE_BYTES);
  const sum = new Uint32Array(SUM_WORDS);
  addIdentities(sum, packed, places.length);
  return { packed, count: places.length, sum };
}

/** Identities are little-endian numbers, as the words of the machine are. */
function addIdentities(sum: Uint32Array, packed: Uint8Array, count: number): void {
  const words = new Uint32Array(packed.buffer);
  for (let i = 0; i < count; i++) add(sum, words, i * PLACE_WORDS + TIME_WORDS);
}

/** Modulo 2^256. */
function add(sum: Uint32Array, words: Uint32Array, offset: number): void {
  let carry = 0;
  for (let i = 0; i < SUM_WORDS; i++) {
    const total = sum[i]! + words[offset + i]! + carry;
    sum[i] = total;
    carry = total > 0xffffffff ? 1 : 0;
  }
}

function subtract(sum: Uint32Array, words: Uint32Array): void {
  let borrow = 0;
  for (let i = 0; i < SUM_WORDS; i++) {
    const total = sum[i]! - words[i]! - borrow;
    sum[i] = total;
    borrow = total < 0 ? 1 : 0;
  }
}
