/**
 * Time by the chain. The host sets the machine's clock, so that one is never asked: what is left is what headers say, and a
 * clock that only moves forward since boot.
 */
import { DstackError } from '../protocol/errors.ts';

/** This long after the newest accepted header, what depends on the chain's state must stop. Seconds. */
export const STALE_AFTER_SECONDS = 3600;

/**
 * A boot clock is not exact, and one that is too fast would leave the chain behind, a little more each day, until every
 * block looked stale. So it is taken for as much too fast as clocks in working order are at most (RFC 5905, 500 ppm). The
 * price: a chain that is replayed that much too slowly, 43 s a day, is not noticed.
 */
const BOOT_CLOCK_ERROR = 500e-6;

/**
 * The newest accepted header's timestamp, or where the boot clock has taken an earlier one since, whichever is later: so it
 * never goes back, and headers that crawl do not slow it down. They fall behind it, and that is what stale means.
 */
export class ChainClock {
  readonly #monotonic: () => number;
  readonly #builtAt: number;
  #set: { seconds: number; at: number } | undefined;
  #newest = 0;

  /**
   * @param builtAt Unix seconds; the clock is never before it
   * @param monotonic milliseconds that only grow
   */
  constructor(builtAt: number, monotonic: () => number) {
    this.#builtAt = builtAt;
    this.#monotonic = monotonic;
  }

  /** @param timestamp of a header that was accepted, Unix seconds @param reading of another such clock, if there is one */
  accept(timestamp: number, reading = timestamp): void {
    const seconds = Math.max(this.#builtAt, timestamp, reading, this.#read() ?? 0);
    this.#set = { seconds, at: this.#monotonic() };
    this.#newest = Math.max(this.#newest, timestamp);
  }

  /** Unix seconds. @throws CHAIN_STALE */
  now(): number {
    const seconds = this.#read();
    if (seconds === undefined) throw new DstackError('CHAIN_STALE', 'no block has been accepted yet');
    const behind = Math.round(seconds - this.#newest);
    if (behind > STALE_AFTER_SECONDS) {
      const newest = new Date(this.#newest * 1000).toISOString();
      throw new DstackError(
        'CHAIN_STALE',
        `the newest accepted block is of ${newest}, ${behind} s behind this node's clock: the chain stands still, or its endpoints are held back`,
      );
    }
    return Math.floor(seconds);
  }

  /** What another clock of this machine can go on from; undefined before the first header. */
  reading(): { timestamp: number; now: number } | undefined {
    const seconds = this.#read();
    return seconds === undefined ? undefined : { timestamp: this.#newest, now: Math.floor(seconds) };
  }

  #read(): number | undefined {
    if (this.#set === undefined) return undefined;
    const passed = (this.#monotonic() - this.#set.at) / 1000;
    return this.#set.seconds + passed * (1 - BOOT_CLOCK_ERROR);
  }
}
