/** Pauses that end early: with a process, or because there is something to do. */

export function pausing(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });
}

/** A pause that anyone can end; what was said during no pause ends the next one at once. */
export class Bell {
  #rung = false;
  #end: () => void = () => {};

  ring(): void {
    this.#rung = true;
    this.#end();
  }

  async pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung) {
      const early = new AbortController();
      this.#end = () => early.abort();
      await pausing(milliseconds, AbortSignal.any([signal, early.signal]));
    }
    this.#rung = false;
  }
}
