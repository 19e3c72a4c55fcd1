/**
 * Decides which of the heads that endpoints claim may count. Pure.
 *
 * The host decides which endpoints answer: it can silence any of them. So that the few that are left cannot name an old block,
 * or a time long past, a head counts only if a quorum claims heads near it. At least one endpoint of a quorum is honest, so
 * what counts is never above an honest endpoint's head, nor further behind it than the bounds.
 */

/** What an endpoint says about its newest block. `timestamp` in Unix seconds. */
export interface Claim {
  readonly number: number;
  readonly timestamp: number;
}

export interface Bounds {
  readonly blocks: number;
  readonly seconds: number;
}

/**
 * How far apart honest endpoints may be. Beyond that, the reader waits for those that are behind. Finality comes in leaps: an
 * Ethereum epoch takes 384 s, in which another chain may make thousands of blocks.
 */
export const NEAR = {
  latest: { blocks: 32, seconds: 90 },
  finalized: { blocks: 10_000, seconds: 450 },
} as const;

/**
 * The heads that count, highest first: for each, a block number and a time that a quorum has reached. Empty when no quorum's
 * heads are near each other.
 */
export function nearHeads(claims: readonly Claim[], quorum: number, near: Bounds): Claim[] {
  const numbers = [...new Set(claims.map(({ number }) => number))].sort((a, b) => b - a);
  return numbers.flatMap((number) => {
    const around = claims.filter((claim) => claim.number >= number && claim.number <= number + near.blocks);
    const timestamp = latestNear(
      around.map((claim) => claim.timestamp),
      quorum,
      near.seconds,
    );
    return timestamp === undefined ? [] : [{ number, timestamp }];
  });
}

/** The latest of the times that a quorum has reached and that no member of it is ahead of by more than `seconds`. */
function latestNear(times: readonly number[], quorum: number, seconds: number): number | undefined {
  return [...times]
    .sort((a, b) => b - a)
    .find((time) => times.filter((other) => other >= time && other <= time + seconds).length >= quorum);
}
