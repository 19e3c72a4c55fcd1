/**
 * Where each message of the log stands, in memory: what peers ask for, and what makes room for what, costs no read of the store.
 * The log writes; this only follows.
 */

export interface IndexRow {
  readonly sequence: number;
  readonly id: string;
  readonly type: string;
  readonly subject: string;
  /** Characters of its JSON. */
  readonly size: number;
  source: string;
}

export class MessageIndex {
  readonly #byId = new Map<string, IndexRow>();
  readonly #bySubject = new Map<string, Set<IndexRow>>();
  /** Kept subjects by how many messages there are about each, in the order in which they had so many: who has most is found without a look at all. */
  readonly #kept = new Map<number, Set<string>>();
  readonly #counted = new Map<string, number>();
  /** Of the messages of each type. */
  readonly #subjects = new Map<string, Set<string>>();
  /** Loose messages by source, in the order in which they became the source's. */
  readonly #loose = new Map<string, Set<IndexRow>>();
  readonly #isKept: (subject: string) => boolean;
  /** In order of their sequences; rows that were removed stay until they are many. */
  #rows: IndexRow[] = [];
  #looseCount = 0;
  /** Characters of loose messages, by source. */
  readonly #looseSizes = new Map<string, number>();
  /** The same, of all. */
  looseSize = 0;
  /** Characters of what is kept. */
  keptSize = 0;

  constructor(isKept: (subject: string) => boolean) {
    this.#isKept = isKept;
  }

  get(id: string): IndexRow | undefined {
    return this.#byId.get(id);
  }

  get count(): { loose: number; kept: number } {
    return { loose: this.#looseCount, kept: this.#byId.size - this.#looseCount };
  }

  /** A sequence is higher than all before it. */
  add(row: IndexRow): void {
    this.#byId.set(row.id, row);
    this.#rows.push(row);
    this.#bySubject.set(row.subject, (this.#bySubject.get(row.subject) ?? new Set()).add(row));
    this.#subjects.set(row.type, (this.#subjects.get(row.type) ?? new Set()).add(row.subject));
    if (this.#isKept(row.subject)) {
      this.keptSize += row.size;
      this.#count(row.subject);
    } else this.#addLoose(row);
  }

  delete(id: string): void {
    const row = this.#byId.get(id);
    if (row === undefined) return;
    this.#byId.delete(id);
    const about = this.#bySubject.get(row.subject);
    about?.delete(row);
    if (about?.size === 0) this.#bySubject.delete(row.subject);
    const isLast = ![...(about ?? [])].some(({ type }) => type === row.type);
    if (isLast) this.#subjects.get(row.type)?.delete(row.subject);
    if (!this.#deleteLoose(row)) {
      this.keptSize -= row.size;
      this.#count(row.subject);
    }
    if (this.#rows.length > 2 * this.#byId.size + 64)
      this.#rows = this.#rows.filter((other) => this.#isHeld(other));
  }

  /** The message counts as another source's. */
  move(id: string, source: string): void {
    const row = this.#byId.get(id);
    if (row === undefined) return;
    const wasLoose = this.#deleteLoose(row);
    row.source = source;
    if (wasLoose) this.#addLoose(row);
  }

  /** The subject is kept from now on. */
  keep(subject: string): void {
    for (const row of this.about(subject)) if (this.#deleteLoose(row)) this.keptSize += row.size;
    this.#count(subject);
  }

  /** Messages about a subject, oldest first. */
  about(subject: string): IndexRow[] {
    return [...(this.#bySubject.get(subject) ?? [])];
  }

  /** The subjects of one type's messages, at any time: not a copy. */
  subjects(type: string): ReadonlySet<string> {
    return this.#subjects.get(type) ?? new Set();
  }

  /** Loose messages of one source, oldest first. */
  looseOf(source: string): ReadonlySet<IndexRow> {
    return this.#loose.get(source) ?? new Set();
  }

  /** Characters of them. */
  looseSizeOf(source: string): number {
    return this.#looseSizes.get(source) ?? 0;
  }

  /** All loose messages by source. */
  loose(): IterableIterator<[string, ReadonlySet<IndexRow>]> {
    return this.#loose.entries();
  }

  /** The kept messages about the subject with most of them, oldest first; of several the one that has had so many for the longest. */
  mostKept(): IndexRow[] {
    const [subject] = this.#kept.get(Math.max(...this.#kept.keys())) ?? [];
    return subject === undefined ? [] : this.about(subject);
  }

  /** The number of messages about a kept subject is another. */
  #count(subject: string): void {
    const count = this.#bySubject.get(subject)?.size ?? 0;
    const before = this.#counted.get(subject);
    if (before === count) return;
    if (before !== undefined) {
      const those = this.#kept.get(before);
      those?.delete(subject);
      if (those?.size === 0) this.#kept.delete(before);
    }
    this.#counted.delete(subject);
    if (count === 0) return;
    this.#counted.set(subject, count);
    this.#kept.set(count, (this.#kept.get(count) ?? new Set()).add(subject));
  }

  /** Rows after a sequence, oldest first. */
  after(sequence: number, limit: number): IndexRow[] {
    const found: IndexRow[] = [];
    for (let at = this.#firstAfter(sequence); at < this.#rows.length && found.length < limit; at += 1) {
      const row = this.#rows[at]!;
      if (this.#isHeld(row)) found.push(row);
    }
    return found;
  }

  #addLoose(row: IndexRow): void {
    this.#loose.set(row.source, (this.#loose.get(row.source) ?? new Set()).add(row));
    this.#looseCount += 1;
    this.#addLooseSize(row.source, row.size);
  }

  #addLooseSize(source: string, size: number): void {
    this.looseSize += size;
    const left = this.looseSizeOf(source) + size;
    if (left === 0) this.#looseSizes.delete(source);
    else this.#looseSizes.set(source, left);
  }

  /** False when it was not loose. */
  #deleteLoose(row: IndexRow): boolean {
    const own = this.#loose.get(row.source);
    if (own?.delete(row) !== true) return false;
    if (own.size === 0) this.#loose.delete(row.source);
    this.#looseCount -= 1;
    this.#addLooseSize(row.source, -row.size);
    return true;
  }

  #isHeld(row: IndexRow): boolean {
    return this.#byId.get(row.id) === row;
  }

  #firstAfter(sequence: number): number {
    let [low, high] = [0, this.#rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[middle]!.sequence > sequence) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
