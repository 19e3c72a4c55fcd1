/**
 * Blocks whose filters say that they may have events, and that are not read yet since nobody has to know of them now: they are read with
 * later ones, in one call. A filter that is wrong, which anyone can make it for what they have to say, delays an event until blocks are read anyway.
 */
import type { LogSource } from './event-reader.ts';
import type { EventHandler } from './handler.ts';

export interface UnreadBlocksOptions {
  source: Pick<LogSource, 'isLoud' | 'names'>;
  // biome-ignore lint/suspicious/noExplicitAny: each E stays inside its handler
  handlers: readonly Pick<EventHandler<any>, 'topic' | 'patience'>[];
  now: () => number;
}

export class UnreadBlocks {
  readonly #options: UnreadBlocksOptions;
  /** Since when each could have been read, Unix milliseconds. */
  readonly #since = new Map<number, number>();

  constructor(options: UnreadBlocksOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#since.size;
  }

  /** When a block could have been read; undefined unless it was left for later. */
  since(block: number): number | undefined {
    return this.#since.get(block);
  }

  /** Whether no handler has to know now of what is in a block. @param newest block */
  async canWait(block: number, newest: number): Promise<boolean> {
    const { source, handlers, now } = this.#options;
    // By a clock that was set back it could have been read later than now.
    const since = Math.min(this.#since.get(block) ?? now(), now());
    const [age, followed] = [now() - since, newest - block];
    let isSome = false;
    for (const { topic, patience } of handlers) {
      if (source.isLoud?.(block, [topic]) !== true) continue;
      isSome = true;
      const names = (subject: string) => source.names?.(block, topic, subject) === true;
      // Who can't say, as when the endpoint is asked for it and does not answer, does not keep others from knowing.
      const left = (await patience?.({ age, followed, names }).catch(() => 0)) ?? 0;
      if (left <= 0) return false;
    }
    if (isSome) this.#since.set(block, since);
    return isSome;
  }

  /** Blocks up to this one are read, or too old. */
  read(to: number): void {
    for (const block of this.#since.keys()) if (block <= to) this.#since.delete(block);
  }

  clear(): void {
    this.#since.clear();
  }
}
