/**
 * A contract's events as they come: each once, in the chain's order, and those that a re-organisation took back. Endpoints may show a block
 * before its logs, so the last blocks are read again with each new one.
 */
import type { Hex } from '../../lib/protocol/hex.ts';
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';

export interface SeenEvent {
  readonly block: number;
  readonly blockHash: Hex;
  /** Its place in the block. */
  readonly index: number;
  readonly transaction: Hex;
  readonly event: NetworkEvent;
}

export interface Block {
  readonly number: number;
  readonly hash: string;
  /** Unix seconds. */
  readonly timestamp: number;
}

export interface Source {
  /** The newest block that counts. */
  head(): Promise<Block>;
  /** In the chain's order; `from` and `to` are inclusive. */
  events(from: number, to: number): Promise<readonly SeenEvent[]>;
}

/** What was found with one look at the chain. */
export interface Look {
  readonly head: Block;
  readonly news: readonly SeenEvent[];
  /** Told before, and not on the chain any more. */
  readonly gone: readonly SeenEvent[];
}

/** Blocks that are read again. Events are known by the hash of their block, so what moved is gone and there again. */
const AGAIN = 32;
/** Blocks that are read at once at most; endpoints that take fewer are asked for fewer. */
const RANGE = 2_000;

export class Follower {
  readonly #source: Source;
  /** The next block to be read for the first time. */
  #next: number;
  /** Nothing before it is told. */
  readonly #first: number;
  readonly #told = new Map<string, SeenEvent>();
  #head: string | undefined;

  /** @param from the first block whose events are told */
  constructor(source: Source, from: number) {
    [this.#source, this.#next, this.#first] = [source, from, from];
  }

  /** Reads what is new. @throws what the source throws: nothing is lost, and the next look finds it */
  async look(): Promise<Look> {
    const head = await this.#source.head();
    if (head.hash === this.#head) return { head, news: [], gone: [] };
    // A shorter chain than before has been re-organised, or its endpoint lags: what is above it is not judged.
    const from = Math.max(this.#first, Math.min(this.#next, head.number + 1) - AGAIN);
    const found = await this.#read(from, head.number);
    const ids = new Set(found.map(idOf));
    const news = found.filter((event) => !this.#told.has(idOf(event)));
    const gone = [...this.#told.values()].filter(
      (event) => event.block >= from && event.block <= head.number && !ids.has(idOf(event)),
    );
    for (const event of gone) this.#told.delete(idOf(event));
    for (const event of news) this.#told.set(idOf(event), event);
    for (const [id, { block }] of this.#told) if (block < from - AGAIN) this.#told.delete(id);
    this.#next = Math.max(this.#next, head.number + 1);
    this.#head = head.hash;
    return { head, news, gone };
  }

  async #read(first: number, last: number): Promise<SeenEvent[]> {
    const all: SeenEvent[] = [];
    let range = RANGE;
    for (let from = first; from <= last; ) {
      const to = Math.min(last, from + range - 1);
      try {
        all.push(...(await this.#source.events(from, to)));
        from = to + 1;
      } catch (error) {
        // It may be too much for an endpoint, each of which says so in its own words.
        if (to === from) throw error;
        range = Math.ceil((to - from + 1) / 2);
        if (range <= AGAIN / 2) throw error;
      }
    }
    return all;
  }
}

const idOf = ({ blockHash, index }: SeenEvent): string => `${blockHash} ${index}`;

/** How long to wait for the next block. Milliseconds. */
const WAIT = { shortest: 1_000, longest: 15_000 } as const;

/**
 * Until when the next block can't be there, by the pace of the last two that were seen.
 * @param now Unix milliseconds
 */
export function pause(before: Block | undefined, head: Block, now: number): number {
  const blocks = head.number - (before?.number ?? head.number);
  if (before === undefined || blocks <= 0) return WAIT.shortest;
  const interval = (1_000 * (head.timestamp - before.timestamp)) / blocks;
  const due = 1_000 * head.timestamp + interval - now;
  return Math.max(WAIT.shortest, Math.min(WAIT.longest, interval, due));
}
