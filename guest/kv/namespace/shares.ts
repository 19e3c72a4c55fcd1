/** How much each namespace has under way at a time. What is more waits, and only for what is its own. */
import { cancelled } from '../../../lib/etcd/errors.ts';

interface Waiting {
  readonly weight: number;
  readonly start: () => void;
}

interface Share {
  taken: number;
  readonly waiting: Waiting[];
}

/** Whose signal says that it waits no longer. It is only asked for where something has to wait. */
export interface Waiter {
  readonly signal: AbortSignal;
}

export class Shares {
  readonly most: number;
  readonly #shares = new Map<string, Share>();

  constructor(most: number) {
    this.most = most;
  }

  /**
   * Runs when there is room for it, after all that came before.
   *
   * @param weight at most what there may be
   * @throws RpcError "context canceled" for who does not wait so long
   */
  async run<T>(id: string, weight: number, run: () => Promise<T>, waiter?: Waiter): Promise<T> {
    const share = this.#shares.get(id) ?? { taken: 0, waiting: [] };
    this.#shares.set(id, share);
    if (share.waiting.length > 0 || share.taken + weight > this.most)
      await this.#wait(share, weight, waiter?.signal);
    else share.taken += weight;
    try {
      return await run();
    } finally {
      share.taken -= weight;
      this.#startNext(share);
      if (share.taken === 0) this.#shares.delete(id);
    }
  }

  /** Who has gone leaves nothing behind: what it asked for may be large. */
  #wait(share: Share, weight: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        share.waiting.splice(share.waiting.indexOf(waiting), 1);
        this.#startNext(share);
        reject(cancelled());
      };
      const waiting: Waiting = {
        weight,
        start: () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
      };
      if (signal?.aborted) {
        reject(cancelled());
        return;
      }
      share.waiting.push(waiting);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  #startNext(share: Share): void {
    for (;;) {
      const [next] = share.waiting;
      if (next === undefined || share.taken + next.weight > this.most) return;
      share.waiting.shift();
      share.taken += next.weight;
      next.start();
    }
  }
}
