/**
 * How much of an app's is done at once. A connection can bring many requests, and each asks the node's other daemons: what is over the limit
 * is refused. What takes a processor's time, signatures and quotes, is done for one app one after the other, so that an app that asks
 * for many delays its own, and those of another by one.
 */
import { DstackError } from '../../lib/protocol/errors.ts';

/** Requests of one app that are being answered. */
const REQUESTS = 64;

export class Turns {
  readonly #doing = new Map<string, number>();
  readonly #last = new Map<string, Promise<unknown>>();

  /** Does something for one app unless as much is being done for it already. @throws TOO_MANY_REQUESTS */
  async atMost<T>(app: string, action: () => Promise<T>): Promise<T> {
    const busy = this.#doing.get(app) ?? 0;
    if (busy >= REQUESTS)
      throw new DstackError(
        'TOO_MANY_REQUESTS',
        `${REQUESTS} requests of this app are being answered; ask again`,
      );
    this.#doing.set(app, busy + 1);
    try {
      return await action();
    } finally {
      const left = this.#doing.get(app)! - 1;
      if (left > 0) this.#doing.set(app, left);
      else this.#doing.delete(app);
    }
  }

  /** Does something for one app once all that was begun for it this way before is done. */
  async inTurn<T>(app: string, action: () => Promise<T>): Promise<T> {
    const before = this.#last.get(app);
    const mine = (async () => {
      await before?.catch(() => {});
      return action();
    })();
    this.#last.set(app, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(app) === mine) this.#last.delete(app);
    }
  }
}
