/** How much each namespace has under way at a time. What is more waits, and only for what is its own. */

interface Share {
  taken: number;
  readonly waiting: { readonly weight: number; readonly start: () => void }[];
}

export class Shares {
  readonly #most: number;
  readonly #shares = new Map<string, Share>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Runs when there is room for it, after all that came before. @param weight at most what there may be */
  async run<T>(id: string, weight: number, run: () => Promise<T>): Promise<T> {
    const share = this.#shares.get(id) ?? { taken: 0, waiting: [] };
    this.#shares.set(id, share);
    if (share.waiting.length > 0 || share.taken + weight > this.#most)
      await new Promise<void>((start) => share.waiting.push({ weight, start }));
    else share.taken += weight;
    try {
      return await run();
    } finally {
      share.taken -= weight;
      this.#startNext(share);
      if (share.taken === 0) this.#shares.delete(id);
    }
  }

  #startNext(share: Share): void {
    for (;;) {
      const [next] = share.waiting;
      if (next === undefined || share.taken + next.weight > this.#most) return;
      share.waiting.shift();
      share.taken += next.weight;
      next.start();
    }
  }
}
