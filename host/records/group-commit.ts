/** Things that are written together, so that many share one wait for the disk: while one group is written, the next one gathers. */

interface Group<T> {
  readonly items: T[];
  bytes: number;
  readonly done: PromiseWithResolvers<void>;
}

export class GroupCommit<T> {
  readonly #write: (items: readonly T[]) => Promise<void>;
  readonly #most: number;
  /** The first one may be being written; things are added to the last one. */
  readonly #groups: Group<T>[] = [];
  #isWriting = false;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param write returns when a group is durable; after it threw, nothing more is written
   * @param most a group with so many bytes takes no more
   */
  constructor(write: (items: readonly T[]) => Promise<void>, most: number) {
    this.#write = write;
    this.#most = most;
  }

  push(item: T, bytes: number): void {
    const last = this.#groups.at(-1);
    const isOpen =
      last !== undefined && last.bytes < this.#most && !(this.#isWriting && this.#groups.length === 1);
    const group = isOpen ? last : this.#begin();
    group.items.push(item);
    group.bytes += bytes;
  }

  /** Returns when all that was pushed so far is durable. @throws what writing failed with */
  async settled(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    await this.#groups.at(-1)?.done.promise;
  }

  #begin(): Group<T> {
    const group: Group<T> = { items: [], bytes: 0, done: Promise.withResolvers() };
    // Nobody may be waiting for it.
    group.done.promise.catch(() => {});
    this.#groups.push(group);
    // After what is being done now, which may bring more.
    if (this.#groups.length === 1) setImmediate(() => void this.#writeAll());
    return group;
  }

  async #writeAll(): Promise<void> {
    for (let group = this.#groups[0]; group !== undefined; group = this.#groups[0]) {
      try {
        if (this.#failure !== undefined) throw this.#failure.error;
        this.#isWriting = true;
        await this.#write(group.items);
        group.done.resolve();
      } catch (error) {
        this.#failure = { error };
        group.done.reject(error);
      } finally {
        this.#isWriting = false;
      }
      this.#groups.shift();
    }
  }
}
