/**
 * How often an app may be refused. To refuse is work, too, which an app can have for nothing, and of more kinds than can all be made cheap: so
 * who goes on with what was refused is read seldom. Whoever mistypes notices nothing.
 */
import { RateLimit } from '../../lib/daemon/rate-limit.ts';

/** Refusals of an app at once, and how many are added to that each second. */
const REFUSED = { burst: 64, perSecond: 10 };
/** How long nothing more of the app is read after each that is beyond that, milliseconds. */
const REST = 400;

export class Refusals {
  readonly #limit = new RateLimit({ ...REFUSED, now: () => performance.now() });
  readonly #rest: (app: string, milliseconds: number) => void;

  /** @param rest has nothing of an app read for a while */
  constructor(rest: (app: string, milliseconds: number) => void) {
    this.#rest = rest;
  }

  /** Something of an app was refused, or a connection of its had no use. */
  count(app: string): void {
    if (!this.#limit.take(app)) this.#rest(app, REST);
  }
}
