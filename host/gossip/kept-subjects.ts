/** Subjects that are on chain, and until which block messages about them are of use. Stored: it is not told again. */
import { Type } from 'typebox';
import { type Store, type StoreOperation, Table } from '../../lib/framework/store.ts';
import { Count, Strict } from '../../lib/protocol/schema.ts';

const KeptSchema = Strict({ until: Type.Optional(Count), since: Count });

/**
 * Blocks may be fast and finality slow: nothing is removed within this time, in which a node may still need its sealed secret.
 * Milliseconds.
 */
const KEPT_AT_LEAST_MS = 60 * 60_000;
/** More than a log has. */
const MAX_ROWS = 200_000;

export class KeptSubjects {
  readonly #store: Store;
  readonly #table: Table<typeof KeptSchema>;
  readonly #now: () => number;
  readonly #subjects = new Map<string, { until?: number; since: number }>();

  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#table = new Table(store, 'gossip/kept/', KeptSchema);
    this.#now = now;
    const { sound, spoiled } = this.#table.sift({ limit: MAX_ROWS });
    for (const { id, value } of sound) this.#subjects.set(id, value);
    // Marks of before say no more than that they are there.
    for (const { id } of spoiled) this.#subjects.set(id, { since: now() });
  }

  get size(): number {
    return this.#subjects.size;
  }

  has(subject: string): boolean {
    return this.#subjects.has(subject);
  }

  /** @param until of several, the last counts */
  add(subject: string, until?: number): void {
    const known = this.#subjects.get(subject);
    if (known !== undefined && (until === undefined || until <= (known.until ?? 0))) return;
    const kept = { since: known?.since ?? this.#now(), ...(until !== undefined && { until }) };
    // Anyone can cause any number of these; who says so does it again if it is lost.
    this.#store.batch([this.#table.putting(subject, kept)], 'soon');
    this.#subjects.set(subject, kept);
  }

  /** What ends it, for a batch that is written at once. */
  ending(subject: string): StoreOperation[] {
    return this.#subjects.has(subject) ? [this.#table.deleting(subject)] : [];
  }

  /** That batch is written. */
  ended(subject: string): void {
    this.#subjects.delete(subject);
  }

  /** Those whose end is known, with it. */
  ends(): [string, number][] {
    return [...this.#subjects].flatMap(([subject, { until }]) =>
      until === undefined ? [] : [[subject, until]],
    );
  }

  /**
   * What gives way when there are more than `most`: some at once, since all are looked at. Those are first of which nothing is held: an endpoint
   * can invent any number of them.
   */
  surplus(most: number, isEmpty: (subject: string) => boolean): string[] {
    if (this.#subjects.size <= most) return [];
    const found: string[] = [];
    for (const subject of this.#subjects.keys()) {
      if (found.length >= most / 64) break;
      if (isEmpty(subject)) found.push(subject);
    }
    return found.length > 0 ? found : [...this.#subjects.keys()].slice(0, 1);
  }

  /** Those of which nothing is of use at this block any more; at most so many. */
  over(block: number, most: number): string[] {
    const old = this.#now() - KEPT_AT_LEAST_MS;
    const found: string[] = [];
    for (const [subject, { until = Number.POSITIVE_INFINITY, since }] of this.#subjects) {
      if (found.length === most) break;
      if (until < block && since < old) found.push(subject);
    }
    return found;
  }
}
