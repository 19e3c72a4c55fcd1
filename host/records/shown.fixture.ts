/** What a node showed first of each conflict, from one look to the next: it goes back to an older value only where its answer says what changed. */
import { toHex } from '../../lib/protocol/encoding.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { conflictKey } from '../../lib/protocol/records/conflicts.ts';
import type { Candidate } from './query.ts';

type Seen = Pick<Candidate, 'id' | 'owner' | 'timestamp' | 'trust'> &
  Partial<Pick<Candidate, 'weight' | 'since'>>;

export class Shown {
  /** Of each conflict what was said of all its candidates, the first one first. */
  readonly #last = new Map<string, readonly Seen[]>();
  readonly #problems: string[] = [];
  #changes = 0;
  #older = 0;

  /** How often another record came first, and how often that was an older one. */
  get counts(): { changes: number; older: number } {
    return { changes: this.#changes, older: this.#older };
  }

  get problems(): readonly string[] {
    return this.#problems;
  }

  look(sets: readonly (readonly Candidate[])[]): void {
    for (const set of sets) this.lookAt(toHex(conflictKey(decodeRecord(set[0]!.bytes))), set);
  }

  lookAt(key: string, now: readonly Seen[]): void {
    const before = this.#last.get(key);
    this.#last.set(
      key,
      now.map(({ id, owner, timestamp, trust, weight, since }) => ({
        ...{ id, owner, timestamp, trust },
        ...(weight !== undefined && { weight }),
        ...(since !== undefined && { since }),
      })),
    );
    if (before === undefined || before[0]!.id === now[0]!.id) return;
    this.#changes += 1;
    if (now[0]!.timestamp < before[0]!.timestamp) this.#older += 1;
    const problem = problemOf(before, now);
    if (problem !== undefined && this.#problems.length < 5) this.#problems.push(problem);
  }
}

function problemOf(before: readonly Seen[], now: readonly Seen[]): string | undefined {
  const [was, is] = [before[0]!, now[0]!];
  if (is.owner === was.owner)
    return is.timestamp > was.timestamp
      ? undefined
      : `${is.id}, of the same owner, is no newer than ${was.id}`;
  const stays = now.find(({ owner }) => owner === was.owner);
  if (stays === undefined) return `${was.id} was shown first, and its owner is no candidate any more`;
  if (stays.timestamp < was.timestamp) return `${stays.id} is older than ${was.id}, which is gone`;
  const came = before.find(({ owner }) => owner === is.owner);
  const isRestated = came === undefined || !isSaidOf(came, is) || !isSaidOf(was, stays);
  return isRestated
    ? undefined
    : `${is.id} came before ${was.id} with nothing said of either but what was said`;
}

const isSaidOf = (before: Seen, now: Seen): boolean =>
  before.trust === now.trust && before.weight === now.weight && before.since === now.since;
