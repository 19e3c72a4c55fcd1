/**
 * The weight of a record: its own work, and that of all records that stand on it, each counted once. It grows with age, and who wants to
 * outweigh an old record has to do more work than everybody did since.
 *
 * To update all ancestors of each new record would cost as much as the graph is deep. So only the records that are asked for, those of
 * conflicts, are followed: for each, one bit a record says whether that stands on it. The first weighing reads the graph once; later
 * records add to it when they come. Records are numbered in the order in which they became members, so that what a record stands on has lower numbers.
 */
import { DstackError } from '../errors.ts';

interface Followed {
  readonly row: number;
  weight: number;
  /** A bit for each row: whether it is this record or stands on it. */
  bits: Uint8Array;
}

export class Weights {
  /** Of row `i`: its difficulty; and in `#parents` from `#begins[i]` to `#begins[i + 1]` the rows that it stands on. */
  readonly #works = new Numbers(Float64Array);
  readonly #begins = new Numbers(Uint32Array);
  readonly #parents = new Numbers(Uint32Array);
  /** In the order of their last use. */
  readonly #followed = new Map<number, Followed>();
  readonly #most: number;

  /** @param most records that are followed at a time; each takes a bit a record. The one unused for longest is let go */
  constructor(most: number) {
    this.#most = most;
    this.#begins.push(0);
  }

  get rows(): number {
    return this.#works.length;
  }

  /**
   * Adds the next member.
   * @param parents rows of its dependencies
   * @param work its difficulty; 0 without work
   * @returns its row
   * @throws RECORD_ROW for a parent that is not there
   */
  add(parents: readonly number[], work: number): number {
    const row = this.rows;
    for (const parent of parents) this.#requireRow(parent);
    for (const parent of parents) this.#parents.push(parent);
    this.#begins.push(this.#parents.length);
    this.#works.push(work);
    for (const followed of this.#followed.values()) this.#extend(followed, row);
    return row;
  }

  /** In solutions. Exact below 2^53, which is more than will be done. @throws RECORD_ROW */
  weigh(row: number): number {
    this.#requireRow(row);
    const followed = this.#followed.get(row) ?? this.#follow(row);
    this.#followed.delete(row);
    this.#followed.set(row, followed);
    if (this.#followed.size > this.#most) this.#followed.delete(this.#followed.keys().next().value!);
    return followed.weight;
  }

  #follow(row: number): Followed {
    const followed: Followed = { row, weight: 0, bits: new Uint8Array((this.rows >> 3) + 1) };
    for (let at = row; at < this.rows; at++) this.#extend(followed, at);
    return followed;
  }

  #extend(followed: Followed, row: number): void {
    if (row !== followed.row && !this.#standsOn(followed, row)) return;
    if (row >> 3 >= followed.bits.length) followed.bits = grown(followed.bits, (row >> 2) + 1);
    followed.bits[row >> 3]! |= 1 << (row & 7);
    followed.weight += this.#works.at(row);
  }

  #standsOn({ bits }: Followed, row: number): boolean {
    const end = this.#begins.at(row + 1);
    for (let i = this.#begins.at(row); i < end; i++) {
      const parent = this.#parents.at(i);
      // What is beyond the bits has none set.
      if (((bits[parent >> 3] ?? 0) & (1 << (parent & 7))) !== 0) return true;
    }
    return false;
  }

  #requireRow(row: number): void {
    if (Number.isInteger(row) && row >= 0 && row < this.rows) return;
    throw new DstackError(
      'RECORD_ROW',
      `there is no row ${row} of ${this.rows}; add what it stands on first`,
    );
  }
}

type NumberArray = Float64Array | Uint32Array | Uint8Array;

/** A list of numbers that grows, without an object for each. */
class Numbers {
  #items: Float64Array | Uint32Array;
  length = 0;

  constructor(kind: typeof Float64Array | typeof Uint32Array) {
    this.#items = new kind(1024);
  }

  push(value: number): void {
    if (this.length === this.#items.length) this.#items = grown(this.#items, 2 * this.length);
    this.#items[this.length++] = value;
  }

  at(index: number): number {
    return this.#items[index]!;
  }
}

function grown<T extends NumberArray>(items: T, length: number): T {
  const out = new (items.constructor as new (length: number) => T)(length);
  out.set(items);
  return out;
}
