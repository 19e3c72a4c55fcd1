/**
 * What a peer gave and there was no room to wait: not the records, but which others they stand on. So they are asked for again in the order in which they can
 * be taken, and not before.
 */
export class Forgotten {
  readonly #limit: number;
  /** What stands on an identity that was not here. */
  readonly #heirs = new Map<string, Set<string>>();

  /** @param limit identities that something stands on */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#heirs.size;
  }

  /** @param missing what the record stands on and was not here */
  remember(id: string, missing: readonly string[]): void {
    for (const one of missing) {
      const heirs = this.#heirs.get(one) ?? new Set();
      this.#heirs.set(one, heirs.add(id));
      if (this.#heirs.size > this.#limit) this.#heirs.delete(this.#heirs.keys().next().value!);
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
        for (const heir of this.#heirs.get(id) ?? []) heirs.add(heir);
        this.#heirs.delete(id);
      }
    }
    return [...heirs];
  }
}
