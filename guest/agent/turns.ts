/**
 * How much of an app's is done at once: one thing after the other, and after each a rest, by how long it took, so that an app that
 * asks for much has a fifth of the time and delays others by one thing. What waits is bounded: beyond that a request is refused.
 */
import { DstackError } from '../../lib/protocol/errors.ts';

/** Requests of one app that wait or are being answered, also those whose connection is gone. */
const REQUESTS = 64;
/**
 * How many times as long as something took the app rests after it; and at most, milliseconds. A quote takes others no time, and who asks
 * after one is answered within the half second for which the ecosystem's client waits to hear whether its agent is there.
 */
const REST = 4;
const LONGEST_REST = 400;
/**
 * What each thing takes beside its own time, in which it can't be seen: that the kernel hands bytes over, a timer, a loop of Node's, and memory
 * to be collected. A few bytes that are read and dropped take less than that, and an app that sends these would have half of the time. Milliseconds.
 */
const BESIDE = 0.1;

/** Begins to count the time of something. @returns ends it, and says how long it took, milliseconds */
export type Count = () => () => number;

const wholly: Count = () => {
  const began = performance.now();
  return () => performance.now() - began;
};

export class Turns {
  readonly #doing = new Map<string, number>();
  readonly #last = new Map<string, Promise<void>>();
  /** What each app has to rest, and has not begun to. Milliseconds. */
  readonly #owed = new Map<string, number>();
  readonly #count: Count;

  constructor(count: Count = wholly) {
    this.#count = count;
  }

  /** Has an app rest for so long at least when what is done for it, or is done next, is over. Milliseconds. */
  restAtLeast(app: string, rest: number): void {
    this.#owed.set(app, Math.max(this.#owed.get(app) ?? 0, rest));
  }

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

  /** Does something for one app once all that was begun for it this way before is done, and the app has rested. */
  async inTurn<T>(app: string, action: () => T | Promise<T>): Promise<T> {
    const before = this.#last.get(app);
    const { promise: mine, resolve: next } = Promise.withResolvers<void>();
    this.#last.set(app, mine);
    await before;
    const over = this.#count();
    try {
      return await action();
    } finally {
      // After what it leads to at once, as an answer that is written: that counts, too.
      process.nextTick(() => {
        const rest = this.#owe(app, Math.min(REST * (over() + BESIDE), LONGEST_REST));
        const end = () => {
          if (this.#last.get(app) === mine) this.#last.delete(app);
          next();
        };
        // What others have sent meanwhile is read before, also where there is no rest yet.
        if (rest === 0) setImmediate(end);
        else setTimeout(end, rest);
      });
    }
  }

  /** Adds to what an app has to rest. @returns whole milliseconds of that, which a timer can tell: many short things are a long one */
  #owe(app: string, rest: number): number {
    const owed = (this.#owed.get(app) ?? 0) + rest;
    const whole = Math.floor(owed);
    // What is left of an app that is gone is less than a millisecond, and there are as many as bridges.
    this.#owed.set(app, owed - whole);
    return whole;
  }
}
