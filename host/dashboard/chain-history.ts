/**
 * The contract's events, for people to look at: from the newest block on as blocks come, and back towards the deployment a range at a
 * time, for as long as somebody looks. A look does a bounded part of it, whatever there is to read: anyone may cause events, and the
 * relay has other things to do with its processor and its endpoint. Nothing is decided by it, and nothing is stored: whoever opens the dashboard of a relay
 * that was started anew waits until the history is read again.
 */
import { isTooMuch } from '../../lib/chain/log-reader.ts';
import type { LogSource } from '../../lib/framework/event-reader.ts';
import type { ContractLog } from '../../lib/framework/handler.ts';
import { type NetworkEvent, networkTopics, parseNetworkEvent } from '../../lib/protocol/network-contract.ts';

/** An event, and where it is. */
export interface Seen {
  readonly event: NetworkEvent;
  readonly block: number;
  readonly index: number;
  readonly transaction: string;
}

export interface HistoryStatus {
  /** The first block that was read; undefined before the first reading. */
  readonly from: number | undefined;
  /** Whether that is the deployment or before it. */
  readonly complete: boolean;
  /** Blocks that are newer than what was read: more than nothing while there is more to read than a look takes. */
  readonly behind: number;
  /** Of this block and earlier ones, not all requests and answers are shown: there are more than are kept. Undefined: all are. */
  readonly cutAt: number | undefined;
  readonly problem: string | undefined;
}

const TOPICS: readonly string[] = Object.values(networkTopics);
/** Blocks in one call, of the newest and of the past. Fewer where the endpoint gives fewer or they hold many events, down to one. */
const NEW_RANGE = 128;
const MAX_RANGE = 2000;
/** Events that one call is meant to bring: the next one asks for as many blocks as had so many. */
const PAGE_EVENTS = 500;
/** A look asks for no more pages after so many of them, so many events, or so many milliseconds. */
const LOOK_PAGES = 8;
const LOOK_EVENTS = 2_000;
const LOOK_MS = 1_000;
/** At most so many pages are read before a longer range is tried again. */
const MAX_PATIENCE = 64;
/** The newest blocks may still be replaced: they are read again with what comes after them. */
const UNSETTLED = 16;
/** Kept events: those of nodes that came and went give way first, oldest first. */
const MAX_EVENTS = 10_000;
const GAVE_WAY: readonly NetworkEvent['name'][] = ['Registered', 'Onboarded'];
/** After the endpoint refused, milliseconds. */
const PAUSE_MIN = 1_000;
const PAUSE_MAX = 60_000;
const ZERO_ADDRESS = /^0x0{40}$/;

/** What is left of a look. */
interface Budget {
  pages: number;
  events: number;
  readonly until: number;
}

export class ChainHistory {
  readonly #source: LogSource;
  readonly #now: () => number;
  readonly #limit: number;
  /** In the chain's order. */
  #events: readonly Seen[] = [];
  #first: number | undefined;
  /** What was read last, from `#first` on; with the head's hash once that is the head. */
  #last: { readonly number: number; readonly hash?: string } | undefined;
  /** The newest block that need not be read again: so many followed it when it was read. */
  #settled = 0;
  #head = 0;
  #complete = false;
  #cutAt: number | undefined;
  #problem: string | undefined;
  #range = NEW_RANGE;
  /** Pages to read before more blocks are asked for at once, and those read. More after each refusal, so that a fixed limit is rarely hit. */
  #patience = 1;
  #pages = 0;
  #pause = PAUSE_MIN;
  #notBefore = 0;

  constructor(source: LogSource, now: () => number = Date.now, limit = MAX_EVENTS) {
    this.#source = source;
    this.#now = now;
    this.#limit = limit;
  }

  /** In the chain's order; the same array as long as nothing changed. */
  get events(): readonly Seen[] {
    return this.#events;
  }

  status(): HistoryStatus {
    const behind = this.#last === undefined ? 0 : Math.max(0, this.#head - this.#last.number);
    return {
      from: this.#first,
      complete: this.#complete,
      behind,
      cutAt: this.#cutAt,
      problem: this.#problem,
    };
  }

  /** Reads what is new, and one range of what is old, or a part of it. Nothing is thrown: the problem is in the status. */
  async look(): Promise<void> {
    if (this.#now() < this.#notBefore) return;
    const budget: Budget = { pages: LOOK_PAGES, events: LOOK_EVENTS, until: this.#now() + LOOK_MS };
    try {
      const head = await this.#source.head();
      this.#head = head.number;
      await this.#forward(head, budget);
      if (!this.#complete && this.#isLeft(budget)) await this.#back(budget);
      [this.#pause, this.#problem] = [PAUSE_MIN, undefined];
    } catch (error) {
      const asked = this.#range;
      this.#range = Math.max(1, asked >> 1);
      this.#patience = Math.min(MAX_PATIENCE, 2 * this.#patience);
      this.#pages = 0;
      // The endpoint is there and says what to do.
      if (isTooMuch(error) && asked > 1) return;
      this.#problem = (error as Error).message;
      this.#notBefore = this.#now() + this.#pause;
      this.#pause = Math.min(PAUSE_MAX, 2 * this.#pause);
    }
  }

  #isLeft({ pages, events, until }: Budget): boolean {
    // The first page is asked for however late it is: an endpoint that is slow is one that is read slowly.
    return pages === LOOK_PAGES || (pages > 0 && events > 0 && this.#now() < until);
  }

  async #forward(head: { number: number; hash: string }, budget: Budget): Promise<void> {
    const last = this.#last;
    if (last?.hash === head.hash) return;
    // What nobody looked at for long is read as the past is: backwards.
    if (last === undefined || head.number - last.number > MAX_RANGE) {
      const from = Math.max(0, head.number - Math.min(NEW_RANGE, this.#range) + 1);
      await this.#read(from, head.number, budget);
      this.#first = from;
      this.#note(from);
      this.#settled = Math.max(0, head.number - UNSETTLED);
      this.#last = head;
      return;
    }
    if (this.#isQuiet(last, head)) {
      this.#settled = Math.max(this.#settled, head.number - UNSETTLED);
      this.#last = head;
      return;
    }
    // Where blocks were replaced by fewer ones, nothing is above the newest.
    const to = Math.max(last.number, head.number);
    let next = this.#nextAfter(last, head);
    while (next <= to && this.#isLeft(budget)) {
      const end = Math.min(to, next + Math.min(NEW_RANGE, this.#range) - 1);
      await this.#read(next, end, budget);
      if (next <= this.#settled + 1)
        this.#settled = Math.max(this.#settled, Math.min(end, head.number - UNSETTLED));
      this.#last = { number: end };
      next = end + 1;
    }
    if (next > to) this.#last = head;
  }

  /** A look that goes on with what the one before had no time for goes back over nothing: it would never come to the end. */
  #nextAfter(last: { number: number; hash?: string }, head: { number: number }): number {
    if (last.hash === undefined && last.number < head.number) return last.number + 1;
    const newest = Math.min(last.number, head.number);
    return Math.max(this.#first ?? 0, Math.min(this.#settled + 1, newest - UNSETTLED));
  }

  /** Whether the blocks since say of themselves that they have nothing for us, and follow from the one that was read last. */
  #isQuiet(last: { number: number; hash?: string }, head: { number: number }): boolean {
    if (last.hash === undefined || head.number <= last.number) return false;
    return this.#source.isQuiet?.(last.number, head.number, TOPICS) ?? false;
  }

  async #back(budget: Budget): Promise<void> {
    const first = this.#first!;
    if (first === 0) {
      this.#complete = true;
      return;
    }
    const from = Math.max(0, first - this.#range);
    await this.#read(from, first - 1, budget);
    this.#first = from;
    this.#note(from);
  }

  /** The first event of a contract is that it has an owner. */
  #note(from: number): void {
    // What was read before a long absence is no proof that everything since then was.
    const isBorn = ({ event, block }: Seen) =>
      block >= from && event.name === 'OwnershipTransferred' && ZERO_ADDRESS.test(event.previousOwner);
    this.#complete = from === 0 || this.#events.some(isBorn);
  }

  /** What was known of these blocks is replaced by what they show now. */
  async #read(from: number, to: number, budget: Budget): Promise<void> {
    const logs = await this.#source.logs(from, to, TOPICS);
    budget.pages -= 1;
    budget.events -= logs.length;
    this.#fit(to - from + 1, logs.length);
    const found = logs.flatMap(seenIn).sort((a, b) => a.block - b.block || a.index - b.index);
    const before = this.#events.filter(({ block }) => block < from);
    const after = this.#events.filter(({ block }) => block > to);
    if (found.length === 0 && before.length + after.length === this.#events.length) return;
    const { kept, cutAt } = bounded([...before, ...found, ...after], this.#limit);
    this.#events = kept;
    if (cutAt !== undefined) this.#cutAt = Math.max(this.#cutAt ?? 0, cutAt);
  }

  /** @param blocks that were asked for at once, and @param events that they held */
  #fit(blocks: number, events: number): void {
    const fitting = Math.max(1, Math.floor((blocks * PAGE_EVENTS) / Math.max(1, events)));
    // The last piece of a range may be short, which says nothing about longer ones.
    if (blocks < this.#range && fitting > blocks) return;
    this.#pages += 1;
    if (fitting > this.#range && this.#pages < this.#patience) return;
    this.#range = Math.min(MAX_RANGE, 2 * this.#range, fitting);
    this.#pages = 0;
  }
}

/** An endpoint's log that is no event of the contract's is not shown. */
function seenIn(log: ContractLog): readonly Seen[] {
  try {
    const event = parseNetworkEvent(log);
    const { blockNumber: block, logIndex: index, transactionHash: transaction } = log;
    return event === undefined ? [] : [{ event, block, index, transaction }];
  } catch {
    return [];
  }
}

/** The newest ones that there is room for. `cutAt`: the block of the newest that gave way. */
function bounded(
  events: readonly Seen[],
  limit: number,
): { kept: readonly Seen[]; cutAt: number | undefined } {
  let over = events.length - limit;
  if (over <= 0) return { kept: events, cutAt: undefined };
  let cutAt = 0;
  const others = events.filter(({ event, block }) => {
    const goes = GAVE_WAY.includes(event.name) && over-- > 0;
    if (goes) cutAt = block;
    return !goes;
  });
  const kept = others.slice(-limit);
  const gone = others[others.length - kept.length - 1];
  return { kept, cutAt: Math.max(cutAt, gone?.block ?? 0) };
}
