/**
 * Which relay has a request answered first, without a word between them. Any joined node can answer any request, and all answers to
 * one are alike: one is enough. So each relay waits for a time that only it and the request decide, before it reads the chain
 * or asks its node; if a valid answer has come by then, there is nothing left to do.
 *
 * The place of a relay is H(requestHash ‖ own key) / 2^256. The first `CANDIDATES` in expectation have their turns spread over
 * a time in which an answer can be made and heard of between two of them; if all of those are silent, four times as many
 * follow, and so on, in no more than a quarter of the request's window. A relay that is dead or keeps its node's answer to itself costs
 * one turn. Nothing depends on anyone keeping to it: who answers out of turn does work that was not needed.
 */
import { fromHex, sha256 } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';

export interface AnswerTurnsOptions {
  /** This relay's own, 64 hex digits: who chooses it to be first for everything has all the work. */
  ownKey: Hex;
  /** Nodes that can answer, as far as this relay knows. */
  nodes(): number;
  /** Milliseconds for a message to get to the others. */
  latency(): number;
  /** Milliseconds between this host's looks at the chain: others see an event so much earlier or later. */
  pollInterval: number;
  /** Milliseconds. */
  now?: () => number;
}

/** Relays that start before any others, in expectation. Up to `EVERYONE` nodes nobody waits. */
const CANDIDATES = 8;
const EVERYONE = 2;
/** How much further apart two turns are than an answer takes. */
const APART = 1.5;
/** Each further group is so much larger than the one before. */
const GROWTH = 4;
/** Milliseconds that a node takes, until this host's own has shown it; and at most: a host's own slow node must not make it last. */
const NODE_MS = { first: 300, most: 5_000 };
/** Milliseconds for a block while no pace has been seen: too little, so that the wait is rather too short. */
const BLOCK_MS = 1_000;

export class AnswerTurns {
  readonly #options: AnswerTurnsOptions;
  readonly #now: () => number;
  #nodeMs = NODE_MS.first;
  #blockMs = BLOCK_MS;
  #seen: { head: number; at: number } | undefined;

  constructor(options: AnswerTurnsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Milliseconds from the event to this relay's turn.
   * @param requestHash 64 hex digits
   * @param window of the network, blocks
   */
  delay(requestHash: Hex, window: number): number {
    const nodes = this.#options.nodes();
    if (nodes <= EVERYONE) return 0;
    const place = placeOf(requestHash, this.#options.ownKey);
    const cap = (window * this.#blockMs) / 4;
    const candidates = Math.min(nodes, CANDIDATES);
    const spread = Math.min(cap, candidates * APART * this.#turnMs(nodes));
    let [from, to, start] = [0, candidates / nodes, 0];
    while (place >= to && to < 1) {
      [from, to] = [to, Math.min(1, to * GROWTH)];
      start += spread;
    }
    return Math.min(cap, start + (spread * (place - from)) / (to - from));
  }

  /** This host's own node has taken so long to answer. */
  answered(ms: number): void {
    this.#nodeMs = Math.min(NODE_MS.most, 0.8 * this.#nodeMs + 0.2 * ms);
  }

  /** The chain has got to this block. */
  saw(head: number): void {
    const at = this.#now();
    // A chain does not get shorter: the endpoint had claimed a block that there is not, and would be believed for ever.
    if (this.#seen === undefined || head < this.#seen.head) this.#seen = { head, at };
    else if (head >= this.#seen.head + 10) {
      this.#blockMs = (at - this.#seen.at) / (head - this.#seen.head);
      this.#seen = { head, at };
    }
  }

  /** Milliseconds from the beginning of one relay's turn until all the others know its answer. */
  #turnMs(nodes: number): number {
    const { latency, pollInterval } = this.#options;
    const hops = Math.ceil(Math.log(Math.max(nodes, 6)) / Math.log(6));
    return this.#nodeMs + hops * latency() + pollInterval;
  }
}

/** In [0, 1). */
export function placeOf(requestHash: Hex, ownKey: Hex): number {
  const hash = sha256(new Uint8Array([...fromHex(requestHash, 32), ...fromHex(ownKey, 32)]));
  return new DataView(hash.buffer, hash.byteOffset).getUint32(0) / 2 ** 32;
}

/** One pause for each request, after which it is looked at again. */
export class Alarms {
  readonly #wake: (requestHash: Hex) => void;
  readonly #timers = new Map<Hex, NodeJS.Timeout>();

  constructor(wake: (requestHash: Hex) => void) {
    this.#wake = wake;
  }

  set(requestHash: Hex, ms: number): void {
    this.clear(requestHash);
    const timer = setTimeout(() => {
      this.#timers.delete(requestHash);
      this.#wake(requestHash);
    }, ms);
    this.#timers.set(requestHash, timer.unref());
  }

  clear(requestHash: Hex): void {
    clearTimeout(this.#timers.get(requestHash));
    this.#timers.delete(requestHash);
  }
}
