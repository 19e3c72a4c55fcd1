/**
 * Which items one side has and the other has not (negentropy v1, "Preparation" and "Message"): ranges whose fingerprints differ are
 * divided until they are short enough to be listed. The side that began learns both differences; the other only answers, and remembers nothing
 * between two questions.
 *
 * An answer may be made up by whoever gives it: that costs no more than an honest one, ends after as many rounds, and what it says is missing
 * is only asked for.
 */
import { toHex } from '../../encoding.ts';
import { DstackError } from '../../errors.ts';
import { ID_BYTES } from '../format.ts';
import type { ItemSet } from './item-set.ts';
import { boundBetween, END, idAt } from './places.ts';
import { type Contents, decodeRanges, MAX_RANGE_BYTES, type Range, RangeWriter } from './ranges.ts';

/** Into so many parts a range is divided. */
const PARTS = 16;
/** With up to so many items a range is listed. */
const LISTED = 6;
/** A range of few items is divided into parts of about so many. */
const FEW = 4;

/** More of our own items than that in a range that the other side lists: they are taken in their order, after what comes before them. */
const MANY = 256;

export interface ReconcileLimits {
  /** Of one message in each direction, in bytes: at least 4096. */
  readonly messageBytes: number;
  /** Of questions, with the first. */
  readonly rounds: number;
  /** Of identities, here and there together, after which it stops: these are exchanged first. */
  readonly difference: number;
}

export const RECONCILE_LIMITS: ReconcileLimits = { messageBytes: 60_000, rounds: 64, difference: 8192 };

/** Collects the ranges of one message; what is left alone is written only when something follows it. */
class Output {
  readonly #writer = new RangeWriter();
  readonly #items: ItemSet;
  readonly #limit: number;
  #skippedTo: Uint8Array | undefined;
  /** Whether nothing more fits. */
  isFull = false;

  constructor(items: ItemSet, limit: number) {
    this.#items = items;
    // Whatever came last, a skip and the fingerprint of all that follows have room.
    this.#limit = limit - 2 * MAX_RANGE_BYTES;
  }

  skip(upper: Uint8Array): void {
    this.#skippedTo = upper;
  }

  /** A range of the items from `from` on, before `to`; or one of all that follow, when it does not fit. */
  range(upper: Uint8Array, contents: Contents, from: number): void {
    if (this.#room < sizeOf(contents)) {
      this.rest(from);
      return;
    }
    this.#writeSkip();
    this.#writer.range(upper, contents);
  }

  /** Instead of all that follow, in one range; nothing comes after it. */
  rest(from: number): void {
    this.#writeSkip();
    const fingerprint = this.#items.fingerprint(from, this.#items.count);
    this.#writer.range(END, { kind: 'fingerprint', fingerprint });
    this.isFull = true;
  }

  /** How many identities fit. */
  get roomForIds(): number {
    return Math.max(0, Math.floor((this.#room - MAX_RANGE_BYTES) / ID_BYTES));
  }

  finish(): Uint8Array {
    return this.#writer.finish();
  }

  get #room(): number {
    return this.#limit - this.#writer.length;
  }

  #writeSkip(): void {
    if (this.#skippedTo !== undefined) this.#writer.range(this.#skippedTo, { kind: 'skip' });
    this.#skippedTo = undefined;
  }
}

function sizeOf(contents: Contents): number {
  return MAX_RANGE_BYTES + (contents.kind === 'ids' ? contents.ids.length * ID_BYTES : 0);
}

/** What to say of a range whose fingerprints differ: its items, or the fingerprints of its parts. */
function divide(items: ItemSet, output: Output, from: number, to: number, upper: Uint8Array): void {
  const count = to - from;
  if (count <= LISTED) {
    list(items, output, from, to, upper);
    return;
  }
  const parts = Math.min(PARTS, Math.ceil(count / FEW));
  for (let part = 0; part < parts && !output.isFull; part++) {
    const first = from + Math.floor((part * count) / parts);
    const next = from + Math.floor(((part + 1) * count) / parts);
    const bound = next === to ? upper : boundBetween(items.at(next - 1), items.at(next));
    output.range(bound, { kind: 'fingerprint', fingerprint: items.fingerprint(first, next) }, first);
  }
}

/** All items of a range, or as many as fit and then the fingerprint of those that follow. */
function list(items: ItemSet, output: Output, from: number, to: number, upper: Uint8Array): void {
  const fitting = Math.min(to, from + output.roomForIds);
  const ids = idsIn(items, from, fitting);
  if (fitting === to) {
    output.range(upper, { kind: 'ids', ids }, from);
    return;
  }
  if (fitting > from) {
    const bound = boundBetween(items.at(fitting - 1), items.at(fitting));
    output.range(bound, { kind: 'ids', ids }, from);
  }
  output.rest(fitting);
}

function idsIn(items: ItemSet, from: number, to: number): Uint8Array[] {
  return Array.from({ length: to - from }, (_, i) => idAt(items.at(from + i)));
}

/** Goes through a message's ranges, each with the places of our own items in it. */
function eachRange(
  items: ItemSet,
  message: Uint8Array,
  visit: (range: Range, from: number, to: number) => void,
): void {
  let from = 0;
  for (const range of decodeRanges(message)) {
    const to = items.below(range.upper);
    visit(range, from, to);
    from = to;
  }
}

function isSame(items: ItemSet, from: number, to: number, fingerprint: Uint8Array): boolean {
  return Buffer.compare(items.fingerprint(from, to), fingerprint) === 0;
}

/**
 * The answer of the side that did not begin.
 * @param messageBytes of the answer, at most
 * @throws SYNC_… of `decodeRanges`
 */
export function answerReconciliation(items: ItemSet, question: Uint8Array, messageBytes: number): Uint8Array {
  const output = new Output(items, messageBytes);
  eachRange(items, question, (range, from, to) => {
    if (output.isFull) return;
    if (range.kind === 'skip') output.skip(range.upper);
    else if (range.kind === 'ids') list(items, output, from, to, range.upper);
    else if (isSame(items, from, to, range.fingerprint)) output.skip(range.upper);
    else divide(items, output, from, to, range.upper);
  });
  return output.finish();
}

/** What the side that began has found so far, as hex; each in the order of its items as far as that is known. */
export interface Difference {
  /** There, and not here. */
  readonly missingHere: ReadonlySet<string>;
  /** Here, and not there. */
  readonly missingThere: ReadonlySet<string>;
  /** Whether that is all. */
  readonly isWhole: boolean;
}

/** The side that begins. */
export class Reconciliation {
  readonly #items: ItemSet;
  readonly #limits: ReconcileLimits;
  readonly #missingHere = new Set<string>();
  readonly #missingThere = new Set<string>();
  #rounds = 0;
  #isOver = false;
  #isWhole = false;

  constructor(items: ItemSet, limits: ReconcileLimits = RECONCILE_LIMITS) {
    this.#items = items;
    this.#limits = limits;
  }

  get rounds(): number {
    return this.#rounds;
  }

  get difference(): Difference {
    return { missingHere: this.#missingHere, missingThere: this.#missingThere, isWhole: this.#isWhole };
  }

  /** The first question. */
  open(): Uint8Array {
    this.#rounds = 1;
    const output = new Output(this.#items, this.#limits.messageBytes);
    divide(this.#items, output, 0, this.#items.count, END);
    return output.finish();
  }

  /**
   * Takes an answer; gives the next question, or none when the difference is whole or a limit is reached.
   * @throws SYNC_… of `decodeRanges`; SYNC_ROUNDS for an answer after the last
   */
  next(answer: Uint8Array): Uint8Array | undefined {
    if (this.#isOver || this.#rounds === 0) {
      throw new DstackError('SYNC_ROUNDS', 'an answer to no question; answer each once');
    }
    const output = new Output(this.#items, this.#limits.messageBytes);
    let isOpen = false;
    eachRange(this.#items, answer, (range, from, to) => {
      if (output.isFull || this.#isCut) return;
      if (range.kind === 'ids' && isOpen && to - from > MANY) {
        // Else those far behind would fill the difference, and the other side would get what stands on what it does not have yet.
        const fingerprint = this.#items.fingerprint(from, to);
        output.range(range.upper, { kind: 'fingerprint', fingerprint }, from);
        return;
      }
      if (range.kind === 'ids') this.#compare(range.ids, from, to);
      if (range.kind !== 'fingerprint' || isSame(this.#items, from, to, range.fingerprint))
        output.skip(range.upper);
      else {
        isOpen = true;
        divide(this.#items, output, from, to, range.upper);
      }
    });
    const question = output.finish();
    this.#isWhole = !this.#isCut && question.length === 1;
    this.#isOver = this.#isWhole || this.#isCut || this.#rounds >= this.#limits.rounds;
    if (this.#isOver) return undefined;
    this.#rounds += 1;
    return question;
  }

  get #isCut(): boolean {
    return this.#missingHere.size + this.#missingThere.size >= this.#limits.difference;
  }

  #compare(ids: readonly Uint8Array[], from: number, to: number): void {
    const theirs = new Set(ids.map(toHex));
    for (let i = from; i < to && !this.#isCut; i++) {
      const id = toHex(idAt(this.#items.at(i)));
      if (!theirs.delete(id)) this.#missingThere.add(id);
    }
    for (const id of theirs) {
      if (this.#isCut) return;
      this.#missingHere.add(id);
    }
  }
}
