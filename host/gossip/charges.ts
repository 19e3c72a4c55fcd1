/**
 * What sources have used up of others' patience: announcing what they do not give, giving what was not asked for, or what is
 * refused. Everyone has some credit and regains it, since an honest peer may have lost a message, or see the chain differently.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import { RateLimit } from './rate-limit.ts';

/** What each costs. */
const COSTS = {
  /** The body of another message. */
  GOSSIP_OTHER_BODY: 8,
  GOSSIP_UNDELIVERED: 4,
  GOSSIP_REFUSED: 1,
} as const;
export type Charge = keyof typeof COSTS;

const CREDIT = { burst: 64, perSecond: 0.5 };

export class Charges {
  readonly #credit: RateLimit;
  readonly #onCharge: (source: string, what: Charge) => void;

  constructor(onCharge: (source: string, what: Charge) => void = () => {}, now: () => number = Date.now) {
    this.#credit = new RateLimit({ ...CREDIT, now });
    this.#onCharge = onCharge;
  }

  /** Charges a source; returns the error to throw, for who has one to throw. */
  charge(source: string, what: Charge, message = 'did not do what it said'): DstackError {
    this.#onCharge(source, what);
    // Who can't pay all of it pays what is left: nothing.
    if (!this.#credit.take(source, COSTS[what])) this.#credit.empty(source);
    return new DstackError(what, `${source} ${message}`);
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
