/**
 * Reads a range of blocks in pieces as large as the endpoint allows: providers take 10 to 100,000 blocks a call, or limit the
 * number of results, the bytes or the time, and each says so in its own words (rpc-errors.ts). A range that is refused for
 * its size is halved; after successes it grows again.
 */
import { codeOf } from '../protocol/errors.ts';
import { RpcRefusal } from './json-rpc.ts';

export interface LogReaderOptions<T> {
  /** Reads the blocks `from` to `to`, inclusive. */
  read(from: number, to: number): Promise<T>;
  /** Blocks per call: at first, and at most. */
  first: number;
  longest: number;
}

/** At most so many pages are read successfully before a larger one is tried again. */
const MAX_PATIENCE = 64;

export class LogReader<T> {
  readonly #options: LogReaderOptions<T>;
  #range: number;
  /** Pages to read before the range grows. Doubles when a growth is refused, so that a fixed limit is rarely hit. */
  #patience = 1;
  #read = 0;
  /** Whether the range has grown to a size that has not succeeded yet. */
  #trying = false;

  constructor(options: LogReaderOptions<T>) {
    this.#options = options;
    this.#range = Math.min(options.first, options.longest);
  }

  /**
   * The contents of the blocks from `from` on, as many as the endpoint gives at once: at least one, none after `last`.
   * @throws what `read` throws when a single block is refused, or for a reason that has nothing to do with the size
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
    // The last page is shorter, and says little about the allowed size.
    if (asked < this.#range) return;
    // The earlier refusal was about how much those blocks held, not how many they were.
    if (this.#trying) this.#patience = 1;
    this.#trying = false;
    this.#read += 1;
    if (this.#read < this.#patience || this.#range >= this.#options.longest) return;
    this.#range = Math.min(this.#options.longest, 2 * this.#range);
    this.#trying = true;
    this.#read = 0;
  }
}

/** Includes refusals in unknown words: asking for less costs little, and the refusal of a single block is reported. */
export const isTooMuch = (error: unknown): boolean =>
  codeOf(error) === 'RPC_TOO_LARGE' ||
  (error instanceof RpcRefusal && (error.kind === 'too-much' || error.kind === 'unknown'));

/** No answer may mean that it took too long, or that nobody is there: the next call asks for less, but there is no retry now. */
const isUnclear = (error: unknown): boolean => ['RPC_UNREACHABLE', 'RPC_STATUS'].includes(codeOf(error));
