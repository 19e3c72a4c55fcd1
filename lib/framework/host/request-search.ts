/**
 * Finds a request by its hash in the chain's logs, the newest first: the event loop reads each block once, so what an endpoint kept back
 * then, or what the store has lost since, would be missing for good.
 */
import { isTooMuch } from '../../chain/log-reader.ts';
import { type Hex, sameHex } from '../../protocol/hex.ts';
import { type AppRequest, decodeRequested, hashOfRequest, REQUESTED } from '../app/answer.ts';
import type { LogSource } from '../event-reader.ts';
import type { ContractLog } from '../handler.ts';

/** Blocks per call, at most. */
const RANGE = 2000;
/** Calls at one go. */
const CALLS = 20;

export class RequestSearch {
  readonly #source: Pick<LogSource, 'head' | 'logs'>;
  readonly #startBlock: (head: number) => Promise<number>;
  #range = RANGE;
  /** What is searched for, the first block to look at, and the last one that was not looked at yet. */
  #open: { hash: Hex; first: number; to: number } | undefined;

  /** @param startBlock before which there is none, by the newest block's number */
  constructor(source: Pick<LogSource, 'head' | 'logs'>, startBlock: (head: number) => Promise<number>) {
    this.#source = source;
    this.#startBlock = startBlock;
  }

  /** Looks through some more blocks; from the newest again once all were looked through. @throws what the source throws */
  async find(hash: Hex): Promise<AppRequest | undefined> {
    const head = (await this.#source.head()).number;
    const search = this.#open?.hash === hash ? this.#open : await this.#begin(hash, head);
    const { first } = search;
    // An endpoint may have shown a head far beyond its chain, once: nothing would be found up there for years.
    let to = Math.min(search.to, head);
    for (let calls = 0; calls < CALLS && to >= first; calls += 1) {
      const from = Math.max(first, to - this.#range + 1);
      const logs = await this.#logs(from, to);
      // Too many for one answer: fewer are asked for.
      if (logs === undefined) continue;
      const request = logs
        .map(requestOf)
        .find((one) => one !== undefined && sameHex(hashOfRequest(one), hash));
      if (request !== undefined) {
        this.#open = undefined;
        return request;
      }
      to = from - 1;
      this.#open = { hash, first, to };
    }
    if (to < first) this.#open = undefined;
    return undefined;
  }

  async #begin(hash: Hex, head: number): Promise<{ hash: Hex; first: number; to: number }> {
    return { hash, first: Math.max(0, await this.#startBlock(head)), to: head };
  }

  async #logs(from: number, to: number): Promise<ContractLog[] | undefined> {
    try {
      return await this.#source.logs(from, to, [REQUESTED]);
    } catch (error) {
      if (from === to || !isTooMuch(error)) throw error;
      this.#range = Math.max(1, Math.floor(this.#range / 2));
      return undefined;
    }
  }
}

/** Undefined for a log that is none, as an endpoint may make up. */
function requestOf(log: ContractLog): AppRequest | undefined {
  try {
    return decodeRequested(log);
  } catch {
    return undefined;
  }
}
