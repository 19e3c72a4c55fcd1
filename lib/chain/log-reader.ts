/**
 * Reads a range of blocks piece by piece, as large as an endpoint allows: providers take from 10 to 100,000 blocks a call,
 * or bound the results, the bytes or the time, and say so in words of their own (rpc-errors.ts). What is refused for its
 * size is halved; what went well grows again.
 */
import { codeOf } from '../protocol/errors.ts';
import { RpcRefusal } from './json-rpc.ts';

export interface LogReaderOptions<T> {
  /** Reads the blocks `from` to `to`, inclusive. */
  read(from: number, to: number): Promise<T>;
  /** Blocks asked for at first, and at most. */
  first: number;
  longest: number;
}

/** Pages that go well, at most, before a larger one is tried again. */
const MAX_PATIENCE = 64;

export class LogReader<T> {
  readonly #options: LogReaderOptions<T>;
  #range: number;
  /** Pages to be read before the range grows; more after each growth that is refused: a fixed limit is rarely run into. */
  #patience = 1;
  #read = 0;
  /** Whether this size has not been seen to go well since the range grew to it. */
  #trying = false;

  constructor(options: LogReaderOptions<T>) {
    this.#options = options;
    this.#range = Math.min(options.first, options.longest);
  }

  /**
   * What the blocks from `from` on have, as many of them as are given at once: at least one, at most those up to `last`.
   * @throws what `read` throws, when a single block is refused, or for what has nothing to do with the size
   */
  async next(from: number, last: number): Promise<{ to: number; page: T }> {
    for (;;) {
      const to = Math.min(last, from + this.#range - 1);
      try {
        const page = await this.#options.read(from, to);
        this.#grow(to - from + 1);
        return { to, page };
      } catch (error) {
        const asked = to - from + 1;
        if (isUnclear(error)) this.#shrink(asked);
        if (asked === 1 || !isTooMuch(error)) throw error;
        this.#shrink(asked);
      }
    }
  }

  #shrink(asked: number): void {
    if (this.#trying) this.#patience = Math.min(MAX_PATIENCE, 2 * this.#patience);
    this.#range = Math.max(1, Math.floor(asked / 2));
    this.#trying = false;
    this.#read = 0;
  }

  #grow(asked: number): void {
    // The last page of all says little about the size that is allowed.
    if (asked < this.#range) return;
    // What was refused before was how much there was in those blocks, not how many they were.
    if (this.#trying) this.#patience = 1;
    this.#trying = false;
    this.#read += 1;
    if (this.#read < this.#patience || this.#range >= this.#options.longest) return;
    this.#range = Math.min(this.#options.longest, 2 * this.#range);
    this.#trying = true;
    this.#read = 0;
  }
}

/** Also a refusal in words that nobody knows: asking for less costs little, and a single block's refusal is shown. */
const isTooMuch = (error: unknown): boolean =>
  codeOf(error) === 'RPC_TOO_LARGE' ||
  (error instanceof RpcRefusal && (error.kind === 'too-much' || error.kind === 'unknown'));

/** No answer may mean that it took too long, or that nobody is there: less is asked for next time, but not at once. */
const isUnclear = (error: unknown): boolean => ['RPC_UNREACHABLE', 'RPC_STATUS'].includes(codeOf(error));
