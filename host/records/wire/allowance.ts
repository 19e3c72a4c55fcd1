/** What may be spent: so much each second, and what was saved of that. Who has spent more waits until it is paid. */
import type { Rate } from './limits.ts';

export class Allowance {
  readonly #rate: Rate;
  readonly #now: () => number;
  #left: number;
  #at: number;

  /** @param now milliseconds that only go on */
  constructor(rate: Rate, now: () => number = () => performance.now()) {
    this.#rate = rate;
    this.#now = now;
    this.#left = rate.burst;
    this.#at = now();
  }

  /** Whether all that may be saved is: as if nothing had been spent. */
  get isWhole(): boolean {
    this.spend(0);
    return this.#left === this.#rate.burst;
  }

  /** Whether there is so much left now. */
  covers(amount: number): boolean {
    this.spend(0);
    return this.#left >= amount;
  }

  /** Milliseconds to wait before anything more is done. */
  spend(amount: number): number {
    const now = this.#now();
    const { perSecond, burst } = this.#rate;
    this.#left = Math.min(burst, this.#left + ((now - this.#at) * perSecond) / 1000) - amount;
    this.#at = now;
    return Math.max(0, (-this.#left * 1000) / perSecond);
  }
}
