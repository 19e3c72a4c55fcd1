/** What mined transactions cost since this process was started, for the operator to look at. One that a re-org moved counts twice. */

export interface Spent {
  readonly kind: string;
  readonly transactions: number;
  readonly gas: number;
  /** What was paid for it, as far as the endpoint said the price. */
  readonly wei: bigint;
}

export class Spending {
  readonly #kinds = new Map<string, Spent>();

  /** @param price wei per gas; undefined where the endpoint does not say it */
  add(kind: string, gas: number, price: bigint | undefined): void {
    const before = this.#kinds.get(kind) ?? { kind, transactions: 0, gas: 0, wei: 0n };
    const wei = before.wei + BigInt(gas) * (price ?? 0n);
    this.#kinds.set(kind, { kind, transactions: before.transactions + 1, gas: before.gas + gas, wei });
  }

  list(): readonly Spent[] {
    return [...this.#kinds.values()];
  }
}
