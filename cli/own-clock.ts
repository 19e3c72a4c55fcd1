/** The time by which a command judges evidence. */
import { DstackError } from '../lib/protocol/errors.ts';

/** Blocks are late and clocks inexact; collateral is judged with the same tolerance. Seconds. */
const CLOCK_SKEW_SECONDS = 1_200;

/**
 * Unix seconds by this machine's own clock. Endpoints are asked for the contract's state, not for the time: with an old time they
 * could make revoked or replaced collateral current again.
 * @throws CLOCK_DISAGREES when the chain's newest block is far from it: one of the two is wrong
 */
export function ownClock(newest: number): number {
  const now = Math.floor(Date.now() / 1000);
  if (Math.abs(now - newest) <= CLOCK_SKEW_SECONDS) return now;
  throw new DstackError(
    'CLOCK_DISAGREES',
    `this machine's clock says ${new Date(now * 1000).toISOString()}, the chain's newest block ${new Date(newest * 1000).toISOString()}: set the clock, or use other endpoints`,
  );
}
