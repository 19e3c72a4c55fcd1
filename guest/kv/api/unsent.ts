/** Answers that clients have not taken yet: they are in this process's memory for as long as it pleases a client. */
import type { EventEmitter } from 'node:events';
import type { Caller } from '../types.ts';
import { Budget } from './budget.ts';

/** Bytes, of one caller: more than the largest answer in JSON. */
const MOST = 96 * 1024 * 1024;
/** What a message takes besides its bytes. */
const OF_A_MESSAGE = 512;

export class Unsent {
  readonly #budgets = new Map<string, Budget>();

  /** Counts an answer until what it is sent on closes, which it has not yet. @throws RpcError resource exhausted */
  hold(caller: Caller, bytes: number, until: EventEmitter): void {
    until.once('close', this.#take(caller, bytes));
  }

  /** Counts one message of a stream until it is sent. @throws RpcError resource exhausted */
  async during(caller: Caller, bytes: number, sent: () => Promise<void>): Promise<void> {
    const give = this.#take(caller, bytes + OF_A_MESSAGE);
    await sent().finally(give);
  }

  #take({ prefix }: Caller, bytes: number): () => void {
    const id = Buffer.from(prefix).toString('latin1');
    let budget = this.#budgets.get(id);
    if (budget === undefined) {
      budget = new Budget(MOST);
      this.#budgets.set(id, budget);
    }
    budget.take(bytes);
    return () => budget.give(bytes);
  }
}
