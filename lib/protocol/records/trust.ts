/**
 * How far a reader believes a record: the share of its judges that do not suspect it. The judges are the node itself, by what it saw
 * first, and the oracles that the reader named; nobody else's opinion counts, and by default there are no oracles.
 */
import { toHex } from '../encoding.ts';
import type { Commentary } from './statements.ts';

export interface Standing {
  /** Whether this node saw another owner's record first, while it had all that its peers had. */
  readonly isCollider: boolean;
  /** Whether the authority that certified it took that back. */
  readonly isRevoked: boolean;
}

/** A commentary that is a member, with the key that owns it. */
export interface Opinionated extends Commentary {
  readonly oracle: Uint8Array;
}

/**
 * 0, for what all judges suspect and for what was written under a certificate that was revoked, to 1.
 * @param opinions about this record, of anybody
 * @param oracles owners that the reader chose
 */
export function trustOf(
  { isCollider, isRevoked }: Standing,
  opinions: readonly Opinionated[],
  oracles: readonly Uint8Array[],
): number {
  if (isRevoked) return 0;
  const suspecting = new Set(opinions.map(({ oracle }) => toHex(oracle)));
  const elected = [...new Set(oracles.map(toHex))];
  const suspicions = elected.filter((oracle) => suspecting.has(oracle)).length + (isCollider ? 1 : 0);
  return 1 - suspicions / (elected.length + 1);
}

/** A revocation that is a member. */
export interface Revoked {
  readonly authority: Uint8Array;
  readonly serial: bigint;
}

/** Whether one of these is of this certificate: by its serial number, and by who gave that. */
export function isRevoked(authority: Uint8Array, serial: bigint, revocations: readonly Revoked[]): boolean {
  const key = toHex(authority);
  return revocations.some((revoked) => revoked.serial === serial && toHex(revoked.authority) === key);
}
