/** How many of something each namespace has at a time, up to a bound. */
import type { Keyspace } from './keyspace.ts';

export class Counts {
  readonly #most: number;
  readonly #counts = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Counts one more; false, and nothing is counted, where there are as many as there may be. */
  take({ id }: Keyspace): boolean {
    const count = this.#counts.get(id) ?? 0;
    if (count >= this.#most) return false;
    this.#counts.set(id, count + 1);
    return true;
  }

  release({ id }: Keyspace, taken: number): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) - taken);
  }
}
