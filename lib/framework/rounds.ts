/** Repeats a task, with a pause between rounds that can be cut short. */
export class Rounds {
  readonly #round: () => Promise<number>;
  #running: Promise<void> | undefined;
  #stopped = false;
  #woken = false;
  #wake: () => void = () => {};

  /** @param round resolves to the pause after it, in milliseconds; must handle its own errors */
  constructor(round: () => Promise<number>) {
    this.#round = round;
  }

  /** Starts the first round at once. Further calls do nothing. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the running round has ended; no other follows. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#running;
  }

  /** Whether a long round should break off. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Ends the pause. During a round, skips the pause after it: that round may have been too early to see the change. */
  wake(): void {
    this.#woken = true;
    this.#wake();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#woken = false;
      const pause = await this.#round();
      if (!this.#stopped && !this.#woken) await this.#pause(pause);
    }
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
