/** Does the same again and again, with a pause between that can be cut short. */
export class Rounds {
  readonly #round: () => Promise<number>;
  #running: Promise<void> | undefined;
  #stopped = false;
  #woken = false;
  #wake: () => void = () => {};

  /** @param round resolves to how long to pause after it, in milliseconds; must handle its own errors */
  constructor(round: () => Promise<number>) {
    this.#round = round;
  }

  /** Begins with the first round at once. Once only. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the round that runs has ended; there is no other after it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#running;
  }

  /** Whether a long round should break off. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Ends the pause; during a round, the one after it: what changed may have come too late for that round to see. */
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
