/**
 * What sources have used up of others' patience: announcing what they do not give, giving what was not asked for, or what no honest
 * relay passes on. Everyone has some credit and regains it, since an honest peer may have lost a message.
 *
 * What an honest relay may well pass on, though it is of no use here, costs no credit: whose node is not there yet checks less, and
 * what was recent when it came is held for an hour. So that it can't keep us busy, such a source is only asked more slowly.
 */

import { RateLimit } from '../../lib/daemon/rate-limit.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** What each costs. */
const COSTS = {
  /** The body of another message. */
  GOSSIP_OTHER_BODY: 8,
  GOSSIP_UNDELIVERED: 4,
  /** It said so itself, at once. */
  GOSSIP_MISSING: 1,
  GOSSIP_REFUSED: 1,
} as const;
export type Charge = keyof typeof COSTS;

const CREDIT = { burst: 64, perSecond: 0.5 };
/** Messages of no use here. */
const USELESS = { burst: 512, perSecond: 4 };

export class Charges {
  readonly #credit: RateLimit;
  readonly #useless: RateLimit;
  readonly #onCharge: (source: string, what: Charge | 'GOSSIP_USELESS') => void;

  constructor(
    onCharge: (source: string, what: Charge | 'GOSSIP_USELESS') => void = () => {},
    now: () => number = Date.now,
  ) {
    this.#credit = new RateLimit({ ...CREDIT, now });
    this.#useless = new RateLimit({ ...USELESS, now });
    this.#onCharge = onCharge;
  }

  /** Charges a source; returns the error to throw, for who has one to throw. */
  charge(source: string, what: Charge, message = 'did not do what it said'): DstackError {
    this.#onCharge(source, what);
    // Who can't pay all of it pays what is left: nothing.
    if (!this.#credit.take(source, COSTS[what])) this.#credit.empty(source);
    return new DstackError(what, `${source} ${message}`);
  }

  /** What a source gave is of no use here. @returns milliseconds for which nothing more is to be asked of it */
  useless(source: string): number {
    this.#onCharge(source, 'GOSSIP_USELESS');
    return this.#useless.take(source) ? 0 : 1000 / USELESS.perSecond;
  }

  /** @throws GOSSIP_CREDIT for a source that has none left */
  check(source: string): void {
    if (this.#credit.has(source, 1)) return;
    throw new DstackError(
      'GOSSIP_CREDIT',
      `${source} announced too much that it did not give, or that is no good; it is heard again after a while`,
    );
  }
}
