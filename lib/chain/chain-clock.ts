/**
 * The chain's time. The host sets the machine's clock, so that clock is never read. What remains is the timestamps of block
 * headers, and a clock that has only moved forward since boot.
 */
import { DstackError } from '../protocol/errors.ts';

/** This long after the newest accepted header, everything that depends on the chain's state must stop. Seconds. */
export const STALE_AFTER_SECONDS = 3600;

/**
 * A boot clock is not exact. One that is too fast would run ahead of the chain, a little more each day, until every block
 * looked stale. So it is assumed to be as fast as a working clock can be at most (RFC 5905, 500 ppm). The price: a chain that
 * is replayed that much too slowly, 43 s a day, goes unnoticed.
 */
const BOOT_CLOCK_ERROR = 500e-6;

/**
 * The newest accepted header's timestamp, or an earlier one advanced by the boot clock, whichever is later. So it never goes
 * back, and headers whose time crawls do not slow it down: they fall behind it, and that is what stale means.
 */
export class ChainClock {
  readonly #monotonic: () => number;
  readonly #builtAt: number;
  #set: { seconds: number; at: number } | undefined;
  #newest = 0;

  /**
   * @param builtAt Unix seconds; the clock never shows an earlier time
   * @param monotonic milliseconds that only grow
   */
  constructor(builtAt: number, monotonic: () => number) {
    this.#builtAt = builtAt;
    this.#monotonic = monotonic;
  }

  /** @param timestamp of an accepted header, Unix seconds @param reading of another such clock, if there is one */
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
        `the newest accepted block is from ${newest}, ${behind} s behind this node's clock: the chain has stopped, or its endpoints are being held back`,
      );
    }
    return Math.floor(seconds);
  }

  /** What another clock on this machine can continue from; undefined before the first header. */
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
