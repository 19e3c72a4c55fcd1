/**
 * Which of the heads that endpoints claim may count. Pure.
 *
 * Of those that answer, the host decides who: it can silence any. So that the few who are left cannot name an old block, or
 * a time that is long past, a head counts only if a quorum claims heads near it. One of a quorum is honest, so what counts is
 * never above what an honest endpoint has, nor further behind it than the bounds.
 */

/** What an endpoint says of its newest block. `timestamp` in Unix seconds. */
export interface Claim {
  readonly number: number;
  readonly timestamp: number;
}

export interface Bounds {
  readonly blocks: number;
  readonly seconds: number;
}

/**
 * How far apart honest endpoints may be. Beyond it the reader waits for those that are behind. Finality comes in leaps: an
 * epoch of Ethereum's is 384 s, and that many seconds may be thousands of blocks of another chain.
 */
export const NEAR = {
  latest: { blocks: 32, seconds: 90 },
  finalized: { blocks: 10_000, seconds: 450 },
} as const;

/**
 * The heads that count, the highest first: for each a block number, and a time that a quorum has reached. Empty when no
 * quorum is near each other.
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

/** The latest of the times that a quorum has reached, and none of it has left further behind than `seconds`. */
function latestNear(times: readonly number[], quorum: number, seconds: number): number | undefined {
  return [...times]
    .sort((a, b) => b - a)
    .find((time) => times.filter((other) => other >= time && other <= time + seconds).length >= quorum);
}
