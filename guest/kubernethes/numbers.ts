/**
 * Numbers, of bridges and of the containers on one, that stand for somebody: one that was given back is given to nobody else before it
 * has rested, and the one that has rested longest comes first. So nobody is taken for who had the number before.
 */
import { REST } from '../bridges.ts';

export class Numbers {
  /** Of each number: when it was given back, or `taken`. In the order in which they are given. */
  readonly #since = new Map<number, number | 'taken'>();
  readonly #now: () => number;

  /** @param now a monotonic clock, in milliseconds */
  constructor({ first, count }: { readonly first: number; readonly count: number }, now: () => number) {
    this.#now = now;
    for (let number = first; number < first + count; number += 1)
      this.#since.set(number, Number.NEGATIVE_INFINITY);
  }

  /** Undefined while all that are free are at rest. */
  take(): number | undefined {
    const rested = this.#now() - REST;
    for (const [number, since] of this.#since) {
      if (since === 'taken' || since > rested) continue;
      this.hold(number);
      return number;
    }
    return undefined;
  }

  /** Takes this one, which somebody has. */
  hold(number: number): void {
    if (this.#since.has(number)) this.#set(number, 'taken');
  }

  /** Nobody has it any more. */
  free(number: number): void {
    if (this.#since.get(number) === 'taken') this.#set(number, this.#now());
  }

  /** For one who does not know what was given back just before: all that are free rest from now on. */
  rest(): void {
    for (const [number, since] of this.#since) if (since !== 'taken') this.#since.set(number, this.#now());
  }

  /** Puts it at the end. */
  #set(number: number, since: number | 'taken'): void {
    this.#since.delete(number);
    this.#since.set(number, since);
  }
}
