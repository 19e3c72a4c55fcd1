/**
 * Subjects of which this host should have messages and has none: requests that are on chain and have not arrived, or had to make
 * room before that was known. Carriers ask their peers what they have about them. In memory: who looks for them does so again.
 */

const MAX_SOUGHT = 4096;
/** Milliseconds after which nobody looks for it any more who does not say until which block. */
const SOUGHT_FOR_MS = 600_000;

export class Sought {
  readonly #now: () => number;
  /** The last block at which it is of use, or the time; the oldest first. */
  readonly #subjects = new Map<string, { block?: number; until: number }>();
  readonly #bells = new Set<() => void>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  add(subject: string, block?: number): void {
    const isNew = !this.#subjects.has(subject);
    this.#subjects.set(subject, {
      until: this.#now() + SOUGHT_FOR_MS,
      ...(block !== undefined && { block }),
    });
    if (this.#subjects.size > MAX_SOUGHT) this.#subjects.delete(this.#subjects.keys().next().value!);
    if (isNew) for (const ring of this.#bells) ring();
  }

  /** Something has arrived. */
  delete(subject: string): void {
    this.#subjects.delete(subject);
  }

  expire(block: number): void {
    for (const [subject, { block: last, until }] of this.#subjects) {
      if (last === undefined ? until < this.#now() : last < block) this.#subjects.delete(subject);
    }
  }

  has(subject: string): boolean {
    return this.#subjects.has(subject);
  }

  all(): string[] {
    return [...this.#subjects.keys()];
  }

  /** Calls back whenever there is another one. */
  onNew(ring: () => void): void {
    this.#bells.add(ring);
  }
}
