/** How often something may be: so many times at once, and so many times a second from then on. */
export class Allowance {
  readonly #atOnce: number;
  readonly #eachSecond: number;
  #left: number;
  #countedAt = performance.now();

  constructor(atOnce: number, eachSecond: number) {
    this.#atOnce = atOnce;
    this.#eachSecond = eachSecond;
    this.#left = atOnce;
  }

  /** Counts one. @returns whether there may be another */
  take(): boolean {
    const now = performance.now();
    const added = ((now - this.#countedAt) * this.#eachSecond) / 1_000;
    this.#countedAt = now;
    this.#left = Math.max(0, Math.min(this.#atOnce, this.#left + added) - 1);
    return this.#left >= 1;
  }
}
