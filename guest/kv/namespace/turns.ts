/** One after the other, of those that name the same thing. */
export class Turns {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs when all that came before with one of these names has ended. */
  async take<T>(names: readonly string[], run: () => Promise<T>): Promise<T> {
    const before = names.map((name) => this.#last.get(name));
    let end!: () => void;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    for (const name of names) this.#last.set(name, ended);
    try {
      await Promise.all(before);
      return await run();
    } finally {
      end();
      for (const name of names) if (this.#last.get(name) === ended) this.#last.delete(name);
    }
  }
}
