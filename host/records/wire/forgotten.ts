/**
 * What a peer gave and there was no room to wait: not the records, but which others they stand on. So they are asked for again in the order in which they can
 * be taken, and not before.
 */
export class Forgotten {
  readonly #limit: number;
  /** What stands on an identity that was not here. */
  readonly #heirs = new Map<string, Set<string>>();

  #size = 0;

  /** @param limit of links that are remembered; those of longest ago give way */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Links that are remembered. */
  get size(): number {
    return this.#size;
  }

  /** @param missing what the record stands on and was not here */
  remember(id: string, missing: readonly string[]): void {
    for (const one of missing) {
      const heirs = this.#heirs.get(one) ?? new Set();
      this.#size -= heirs.size;
      this.#heirs.set(one, heirs.add(id));
      this.#size += heirs.size;
      if (this.#size > this.#limit) this.#take(this.#heirs.keys().next().value!);
    }
  }

  /**
   * What stood on records that are here now, then what stood on that, and so on: some `count` to ask for, in this order. What is left is told once those
   * that it stands on are here.
   */
  heirsOf(here: readonly string[], count: number): string[] {
    const heirs = new Set<string>();
    for (const ids of [here, heirs]) {
      for (const id of ids) {
        if (heirs.size >= count) return [...heirs];
        for (const heir of this.#take(id)) heirs.add(heir);
      }
    }
    return [...heirs];
  }

  #take(id: string): ReadonlySet<string> {
    const heirs = this.#heirs.get(id) ?? new Set();
    this.#heirs.delete(id);
    this.#size -= heirs.size;
    return heirs;
  }
}
