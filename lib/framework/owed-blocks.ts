/**
 * Blocks that say of themselves that they may well have logs of ours (their bloom filter does), and of which the endpoint shows none.
 * Some of these filters mean other logs. But an endpoint that is several machines may answer from one that is many blocks behind:
 * as if those blocks had no logs, and without an error. So they are read again, a few times, later than others are.
 */

/** How many blocks later. */
const AGES = [24, 32, 48, 64] as const;

export class OwedBlocks {
  /** When a block is read again: an index of AGES. */
  readonly #next = new Map<number, number>();

  /** The block from which to read up to `last`, instead of from `from`. */
  from(from: number, last: number): number {
    const due = [...this.#next]
      .filter(([block, next]) => last - block >= AGES[next]!)
      .map(([block]) => block);
    return Math.min(from, ...due);
  }

  /** Those blocks were read. @param isOwed whether a block should have shown something and did not */
  read(from: number, to: number, isOwed: (block: number) => boolean): void {
    for (const block of this.#next.keys()) if (block <= to - AGES.at(-1)!) this.#next.delete(block);
    for (let block = Math.max(from, to - AGES.at(-1)! + 1); block <= to; block += 1) {
      if (!isOwed(block)) this.#next.delete(block);
      else
        this.#next.set(
          block,
          AGES.findIndex((age) => to - block < age),
        );
    }
  }
}
