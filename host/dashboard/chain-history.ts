/**
 * The contract's events, for people to look at: from the newest block on as blocks come, and back towards the deployment a range at a
 * time, for as long as somebody looks. Nothing is decided by it, and nothing is stored: whoever opens the dashboard of a relay
 * that was started anew waits until the history is read again.
 */
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
  readonly problem: string | undefined;
}

const TOPICS: readonly string[] = Object.values(networkTopics);
/** Blocks in one call; halved where the endpoint gives fewer, down to one. */
const MAX_RANGE = 2000;
/** The newest blocks may still be replaced: they are read again with what comes after them. */
const UNSETTLED = 16;
/** Kept events: those of nodes that came and went give way first, oldest first. */
const MAX_EVENTS = 10_000;
const GAVE_WAY: readonly NetworkEvent['name'][] = ['Registered', 'Onboarded'];
/** After the endpoint refused, milliseconds. */
const PAUSE_MIN = 1_000;
const PAUSE_MAX = 60_000;
const ZERO_ADDRESS = /^0x0{40}$/;

export class ChainHistory {
  readonly #source: LogSource;
  readonly #now: () => number;
  readonly #limit: number;
  /** In the chain's order. */
  #events: readonly Seen[] = [];
  #first: number | undefined;
  #last: { number: number; hash: string } | undefined;
  #complete = false;
  #problem: string | undefined;
  #range = MAX_RANGE;
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
    return { from: this.#first, complete: this.#complete, problem: this.#problem };
  }

  /** Reads what is new, and one range of what is old. Nothing is thrown: the problem is in the status. */
  async look(): Promise<void> {
    if (this.#now() < this.#notBefore) return;
    try {
      const head = await this.#source.head();
      await this.#forward(head);
      if (!this.#complete) await this.#back();
      [this.#pause, this.#problem] = [PAUSE_MIN, undefined];
    } catch (error) {
      this.#problem = (error as Error).message;
      this.#range = Math.max(1, this.#range >> 1);
      this.#notBefore = this.#now() + this.#pause;
      this.#pause = Math.min(PAUSE_MAX, 2 * this.#pause);
    }
  }

  async #forward(head: { number: number; hash: string }): Promise<void> {
    const last = this.#last;
    if (last?.hash === head.hash) return;
    // What nobody looked at for long is read as the past is: backwards.
    if (last === undefined || head.number - last.number > MAX_RANGE) {
      const from = Math.max(0, head.number - this.#range + 1);
      await this.#read(from, head.number);
      this.#first = from;
      this.#note(from);
    } else if (!this.#isQuiet(last, head)) {
      // Where blocks were replaced by fewer ones, nothing is above the newest.
      const to = Math.max(last.number, head.number);
      const first = Math.max(this.#first ?? 0, Math.min(last.number, head.number) - UNSETTLED);
      for (let from = first; from <= to; from += this.#range)
        await this.#read(from, Math.min(to, from + this.#range - 1));
    }
    this.#last = head;
  }

  /** Whether the blocks since say of themselves that they have nothing for us, and follow from the one that was read last. */
  #isQuiet(last: { number: number }, head: { number: number }): boolean {
    if (head.number <= last.number) return false;
    return this.#source.isQuiet?.(last.number, head.number, TOPICS) ?? false;
  }

  async #back(): Promise<void> {
    const first = this.#first!;
    if (first === 0) {
      this.#complete = true;
      return;
    }
    const from = Math.max(0, first - this.#range);
    await this.#read(from, first - 1);
    this.#first = from;
    this.#note(from);
    this.#range = Math.min(MAX_RANGE, 2 * this.#range);
  }

  /** The first event of a contract is that it has an owner. */
  #note(from: number): void {
    // What was read before a long absence is no proof that everything since then was.
    const isBorn = ({ event, block }: Seen) =>
      block >= from && event.name === 'OwnershipTransferred' && ZERO_ADDRESS.test(event.previousOwner);
    this.#complete = from === 0 || this.#events.some(isBorn);
  }

  /** What was known of these blocks is replaced by what they show now. */
  async #read(from: number, to: number): Promise<void> {
    const logs = await this.#source.logs(from, to, TOPICS);
    const found = logs.flatMap(seenIn);
    const others = this.#events.filter(({ block }) => block < from || block > to);
    if (found.length === 0 && others.length === this.#events.length) return;
    this.#events = bounded(
      [...others, ...found].sort((a, b) => a.block - b.block || a.index - b.index),
      this.#limit,
    );
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

function bounded(events: readonly Seen[], limit: number): readonly Seen[] {
  let over = events.length - limit;
  if (over <= 0) return events;
  const kept = events.filter(({ event }) => !(GAVE_WAY.includes(event.name) && over-- > 0));
  return kept.slice(-limit);
}
