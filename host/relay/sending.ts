/** How many large answers are on their way, in all and to one source, and how long one may take to be taken. */
import type { Socket } from 'node:net';
import { DstackError } from '../../lib/protocol/errors.ts';

export interface SendingLimits {
  /** In all, and to one source. */
  sending: number;
  perSource: number;
  /** Milliseconds that one may take to be taken: what is left is to be asked for anew. */
  within: number;
}

export class Sending {
  readonly #limits: SendingLimits;
  readonly #counts = new Map<string, number>();

  constructor(limits: SendingLimits) {
    this.#limits = limits;
  }

  /**
   * Begins an answer, whose connection is closed when it takes too long.
   * @returns to be called when it is over, once or more often
   * @throws GOSSIP_RATE when too many are on their way
   */
  begin(source: string, socket: Socket): () => void {
    const has = this.#counts.get(source) ?? 0;
    const all = this.#counts.values().reduce((sum, count) => sum + count, 0);
    const limits = this.#limits;
    if (has >= limits.perSource || all >= limits.sending)
      throw new DstackError('GOSSIP_RATE', 'too many files are being sent; try again later');
    this.#counts.set(source, has + 1);
    const timer = setTimeout(() => socket.destroy(), limits.within);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const left = this.#counts.get(source)! - 1;
      if (left === 0) this.#counts.delete(source);
      else this.#counts.set(source, left);
    };
  }
}
