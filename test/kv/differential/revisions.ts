/**
 * Revisions of a namespace of the store beside those of its own bare etcd: the store's are shared by every namespace, so that there
 * are gaps. What both sides answered to the same write are the same revision.
 */
export class RevisionMap {
  /** In rising order: the store's, the bare etcd's. Both begin with 1. */
  readonly #pairs: (readonly [bigint, bigint])[] = [[1n, 1n]];

  /** @returns what is wrong, if they cannot be the same */
  learn(store: bigint, bare: bigint): string | undefined {
    const at = this.#pairs.findLastIndex(([known]) => known <= store);
    const [knownStore, knownBare] = this.#pairs[at]!;
    if (knownStore === store || knownBare === bare)
      return knownStore === store && knownBare === bare
        ? undefined
        : `revision ${store} is ${bare}, and ${knownStore} is ${knownBare}`;
    const next = this.#pairs[at + 1];
    if (bare < knownBare || (next !== undefined && bare >= next[1]))
      return `revision ${store} is ${bare}, after ${knownStore} that is ${knownBare}`;
    this.#pairs.splice(at + 1, 0, [store, bare]);
    return undefined;
  }

  /** Of a key: exactly one that is known; else undefined. */
  bareOf(store: bigint): bigint | undefined {
    return this.#pairs.find(([known]) => known === store)?.[1];
  }

  /** Of a header: the newest change of this namespace until then. */
  bareUntil(store: bigint): bigint {
    return this.#pairs.findLast(([known]) => known <= store)?.[1] ?? 0n;
  }

  /** For a request: the store's name of a bare revision; what is in the future here is so there. */
  storeOf(bare: bigint): bigint {
    if (bare <= 0n) return bare;
    const last = this.#pairs.at(-1)!;
    if (bare > last[1]) return last[0] + 1_000_000n + bare;
    return this.#pairs.findLast(([, known]) => known <= bare)![0];
  }

  get newestBare(): bigint {
    return this.#pairs.at(-1)![1];
  }
}
