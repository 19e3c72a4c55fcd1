/**
 * What was refused a moment ago, by id: it is not fetched again, from however many peers it could be had. Only for a moment, since
 * what the checks go by changes: what is published again comes later than that. Who sends it without being asked has it checked.
 */

/** Milliseconds; less than the pause after which a host gives its message out again. */
const REFUSED_FOR_MS = 20_000;
const MAX_REFUSED = 4096;

export class Refusals {
  readonly #now: () => number;
  /** Until when, by id. */
  readonly #refused = new Map<string, number>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  add(id: string): void {
    this.#refused.delete(id);
    this.#refused.set(id, this.#now() + REFUSED_FOR_MS);
    if (this.#refused.size > MAX_REFUSED) this.#refused.delete(this.#refused.keys().next().value!);
  }

  has(id: string): boolean {
    const until = this.#refused.get(id);
    if (until === undefined) return false;
    if (until > this.#now()) return true;
    this.#refused.delete(id);
    return false;
  }
}
