/**
 * Wagner's algorithm for equihash.ts: all hashes in a table; in each round rows with an equal first word are paired, and what remains of
 * their XOR is a row of the next table. Rows keep which two they came from; the indices of a solution are read back from those. One nonce has
 * 1.9 solutions on average and takes about 65 ms, most of it hashing; the tables take 20 MiB.
 */
import { HashSource, INDICES, packIndices, ROUNDS, WORDS } from './equihash.ts';

/** As many rows come out of a round as went in, give or take hundreds. What is more is dropped, and with it perhaps a solution. */
const CAPACITY = INDICES + (INDICES >> 3);
const WORD_VALUES = 1 << 16;

interface Table {
  readonly rows: number;
  /** Words of a row. */
  readonly width: number;
  readonly words: Uint16Array;
}

/** Its tables are used again for every nonce. One at a time. */
export class EquihashSolver {
  readonly #tables = [new Uint16Array(CAPACITY * WORDS), new Uint16Array(CAPACITY * WORDS)] as const;
  /** Of each round but the last: the two rows that a row came from. */
  readonly #parents = Array.from({ length: ROUNDS - 1 }, () => new Uint32Array(CAPACITY * 2));
  /** Rows in the order of their first word; where each word's rows end. */
  readonly #order = new Uint32Array(CAPACITY);
  readonly #ends = new Uint32Array(WORD_VALUES);

  /** All that Wagner's algorithm finds for this nonce, each 68 bytes: most often none to four. @throws RECORD_WORK_INPUT */
  solutions(seed: Uint8Array, nonce: Uint8Array): Uint8Array[] {
    const hashes = this.#tables[0].subarray(0, INDICES * WORDS);
    new HashSource(seed, nonce).fill(hashes);
    let table: Table = { rows: INDICES, width: WORDS, words: hashes };
    for (let round = 0; round < ROUNDS - 1; round++) table = this.#pair(table, round);
    return this.#solutionsIn(table);
  }

  #pair(table: Table, round: number): Table {
    const words = this.#tables[(round + 1) % 2]!;
    const parents = this.#parents[round]!;
    const width = table.width - 1;
    let rows = 0;
    this.#eachCollision(table, (a, b) => {
      if (rows === CAPACITY) return;
      let remains = 0;
      for (let word = 0; word < width; word++) {
        const xor = table.words[a * table.width + word + 1]! ^ table.words[b * table.width + word + 1]!;
        words[rows * width + word] = xor;
        remains |= xor;
      }
      // Only rows of the same hashes cancel out this early, and those are of no solution.
      if (remains === 0) return;
      parents[2 * rows] = a;
      parents[2 * rows + 1] = b;
      rows++;
    });
    return { rows, width, words };
  }

  /** The last round: two words at once. */
  #solutionsIn(table: Table): Uint8Array[] {
    const found = new Map<string, Uint8Array>();
    this.#eachCollision(table, (a, b) => {
      if (table.words[a * table.width + 1] !== table.words[b * table.width + 1]) return;
      const indices = inOrder(this.#indicesOf(a, ROUNDS - 1), this.#indicesOf(b, ROUNDS - 1));
      if (new Set(indices).size !== indices.length) return;
      found.set(indices.join(), packIndices(indices));
    });
    return [...found.values()];
  }

  /** Every two rows with the same first word, by a counting sort. */
  #eachCollision({ rows, width, words }: Table, visit: (a: number, b: number) => void): void {
    const order = this.#order;
    const ends = this.#ends.fill(0);
    for (let row = 0; row < rows; row++) ends[words[row * width]!]!++;
    for (let word = 0, sum = 0; word < WORD_VALUES; word++) {
      const count = ends[word]!;
      // Where they begin; filling moves it to where they end.
      ends[word] = sum;
      sum += count;
    }
    for (let row = 0; row < rows; row++) order[ends[words[row * width]!]!++] = row;
    for (let word = 0, begin = 0; word < WORD_VALUES; word++) {
      const end = ends[word]!;
      for (let i = begin; i < end; i++) for (let j = i + 1; j < end; j++) visit(order[i]!, order[j]!);
      begin = end;
    }
  }

  #indicesOf(row: number, round: number): number[] {
    if (round === 0) return [row];
    const parents = this.#parents[round - 1]!;
    return inOrder(
      this.#indicesOf(parents[2 * row]!, round - 1),
      this.#indicesOf(parents[2 * row + 1]!, round - 1),
    );
  }
}

function inOrder(a: readonly number[], b: readonly number[]): number[] {
  return a[0]! < b[0]! ? [...a, ...b] : [...b, ...a];
}
