/**
 * Whose the time is. An app is charged for what was done for it, and not for what the agent did for others meanwhile: it rests by its charge,
 * so that what others add to the time of its call would otherwise delay its next one by four times as much again.
 */
export class SharedTime {
  /** What each has been charged of whose thing was under way all along. Milliseconds. */
  #each = 0;
  #countedTo = performance.now();
  #underWay = 0;

  /** Begins something that keeps the event loop to its end: all of that time is its app's, and nobody else's. @returns ends it, and says its time */
  readonly alone = (): (() => number) => {
    this.#count();
    const began = performance.now();
    return () => {
      const now = performance.now();
      this.#countedTo = now;
      return now - began;
    };
  };

  /** Begins something that waits: those that are under way at once have equal parts of the time. @returns ends it, and says its part */
  readonly together = (): (() => number) => {
    this.#count();
    this.#underWay += 1;
    const before = this.#each;
    return () => {
      this.#count();
      this.#underWay -= 1;
      return this.#each - before;
    };
  };

  #count(): void {
    const now = performance.now();
    this.#each += (now - this.#countedTo) / Math.max(1, this.#underWay);
    this.#countedTo = now;
  }
}
