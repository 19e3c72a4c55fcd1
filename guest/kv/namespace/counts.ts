/** How many of something each namespace has at a time, up to a bound. */
import type { Keyspace } from './keyspace.ts';

export class Counts {
  readonly #most: number;
  readonly #counts = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Counts so many more; false, and nothing is counted, where that is more than there may be. */
  take({ id }: Keyspace, more = 1): boolean {
    const count = (this.#counts.get(id) ?? 0) + more;
    if (count > this.#most) return false;
    this.#counts.set(id, count);
    return true;
  }

  of({ id }: Keyspace): number {
    return this.#counts.get(id) ?? 0;
  }

  release({ id }: Keyspace, taken = 1): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) - taken);
  }
}
