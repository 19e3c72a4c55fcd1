/**
 * When blocks were made, as their logs say it: many endpoints tell a log's `blockTimestamp` with it, and then a history need not ask for a header for
 * each block. It counts where all endpoints say the same, where no time is before an earlier block's, and where the headers that are read all the
 * same, of the first block and of the last of each page, agree. Else all headers are read.
 */
interface SaidLog {
  readonly blockHash: string;
  readonly blockTimestamp?: unknown;
}

export class BlockTimes {
  /** By a block's hash; null where one endpoint does not say it, or says something else. */
  readonly #said = new Map<string, number | null>();
  #isSound = true;

  /** What one endpoint said. */
  hear(logs: readonly SaidLog[]): void {
    for (const { blockHash, blockTimestamp } of logs) {
      const said =
        typeof blockTimestamp === 'string' && /^0x[1-9a-f][0-9a-f]{0,12}$/.test(blockTimestamp)
          ? Number(blockTimestamp)
          : null;
      const before = this.#said.get(blockHash);
      this.#said.set(blockHash, before === undefined || before === said ? said : null);
    }
  }

  /** A header was read. */
  check(blockHash: string, timestamp: number): void {
    const said = this.#said.get(blockHash);
    if (said != null && said !== timestamp) this.#isSound = false;
  }

  /** @param hashes in the order of the chain */
  order(hashes: readonly string[]): void {
    let last = 0;
    for (const blockHash of hashes) {
      const said = this.#said.get(blockHash);
      if (said == null) continue;
      if (said < last) this.#isSound = false;
      last = said;
    }
  }

  /** Unix seconds; undefined where only its header can tell. */
  of(blockHash: string): number | undefined {
    return (this.#isSound && this.#said.get(blockHash)) || undefined;
  }
}
