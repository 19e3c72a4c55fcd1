/**
 * How many keys of each namespace were deleted that etcd still keeps the history of. Its index has them among the others, so that whatever
 * reads or counts a range visits them too, until it is compacted past their end. Counted from the start of this process on.
 */

/** Keys that were deleted up to a revision, since the one of the entry before. */
interface Some {
  until: bigint;
  count: number;
}

/** Of one namespace. */
const MOST_ENTRIES = 64;

export class Deleted {
  readonly #all = new Map<string, Some[]>();
  readonly #counts = new Map<string, number>();
  #count = 0;

  add(id: string, revision: bigint): void {
    const entries = this.#all.get(id) ?? [];
    this.#all.set(id, entries);
    entries.push({ until: revision, count: 1 });
    if (entries.length > 2 * MOST_ENTRIES)
      this.#all.set(id, joined(entries, Math.ceil((2 * (this.of(id) + 1)) / MOST_ENTRIES)));
    this.#note(id, 1);
  }

  compacted(revision: bigint): void {
    for (const [id, entries] of this.#all) {
      const kept = entries.filter(({ until }) => until > revision);
      const gone = entries
        .filter(({ until }) => until <= revision)
        .reduce((sum, { count }) => sum + count, 0);
      this.#all.set(id, kept);
      this.#note(id, -gone);
    }
  }

  /** Of one namespace, or of all. */
  of(id?: string): number {
    return id === undefined ? this.#count : (this.#counts.get(id) ?? 0);
  }

  #note(id: string, more: number): void {
    this.#counts.set(id, this.of(id) + more);
    this.#count += more;
  }
}

/** Those in a row put together, up to so many keys: they then count until the last of them is compacted. */
function joined(entries: readonly Some[], most: number): Some[] {
  const fewer: Some[] = [];
  for (const { until, count } of entries) {
    const last = fewer.at(-1);
    if (last === undefined || last.count + count > most) fewer.push({ until, count });
    else {
      last.until = until;
      last.count += count;
    }
  }
  return fewer;
}
