/**
 * Which records are about the same thing, and which of them a reader is shown first.
 *
 * Two records conflict if they have the same names and ordinals, whoever owns them; in the shared mode only if they have the same owner too.
 * All records of one owner in a conflict are one candidate: its newest value, at the weight of its heaviest record, so that
 * who changes a value does not begin from nothing. Candidates are ordered by trust, and by weight only where trust is equal: work can be bought.
 * Of equal weight who came first: by its first record, or who changes a value would lose its place to a later one.
 */
import { lengthPrefixed, sha256, toHex, utf8 } from '../encoding.ts';
import type { RecordHead } from './format.ts';

/** 32 bytes: the same for records that conflict, and for those of one owner that follow each other. Of no use without selectors. */
export function conflictKey({ selectors, shared, owner }: RecordHead): Uint8Array {
  const names = lengthPrefixed(selectors.flatMap(({ claimKey, ordinalTag }) => [claimKey, ordinalTag]));
  return sha256(
    lengthPrefixed([utf8('dstack/v1/record-conflict'), names, shared ? owner : new Uint8Array()]),
  );
}

/** A record of a conflict, and what is known of it. */
export interface Contender {
  readonly id: Uint8Array;
  readonly owner: Uint8Array;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** 0 to 1: trust.ts. */
  readonly trust: number;
  /** Of weights.ts. */
  readonly weight: number;
}

/** An owner's newest record of a conflict, which stands for all of them. */
export interface Ranked extends Contender {
  /** The timestamp of the owner's first. */
  readonly since: number;
}

/**
 * One for each owner, the one to believe first. The same for every order of the contenders.
 * @returns each owner's newest record, with the trust of that record and the weight of the owner's heaviest
 */
export function rank(contenders: readonly Contender[]): Ranked[] {
  const byOwner = Map.groupBy(contenders, ({ owner }) => toHex(owner));
  const candidates = [...byOwner.values()].map((own) => {
    const ordered = own.toSorted(newestFirst);
    const [newest, first] = [ordered[0]!, ordered.at(-1)!];
    // Whoever is certified writes as many as it likes: they are no arguments of one call.
    const heaviest = { weight: own.reduce((most, { weight }) => Math.max(most, weight), 0) };
    return { first, ranked: { ...newest, ...heaviest, since: first.timestamp } };
  });
  return candidates
    .toSorted(
      ({ ranked: a, first: firstOfA }, { ranked: b, first: firstOfB }) =>
        b.trust - a.trust || b.weight - a.weight || a.since - b.since || byId(firstOfA, firstOfB),
    )
    .map(({ ranked }) => ranked);
}

/** Of the same time: the one with the higher identity, which nobody chooses for free. */
function newestFirst(a: Contender, b: Contender): number {
  return b.timestamp - a.timestamp || byId(b, a);
}

function byId(a: Contender, b: Contender): number {
  return Buffer.compare(a.id, b.id);
}
