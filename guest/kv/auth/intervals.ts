/**
 * Ranges of keys as permissions have them, by etcd's rules: a permission without an end is for one key, an end of one zero byte is for
 * all keys from its first, and a range may be allowed by several permissions that meet.
 */
import { isOpenEnded, type KeyRange } from '../namespace/keyspace.ts';

/** `[begin, end)`; without an end it goes on for ever. */
interface Interval {
  readonly begin: Uint8Array;
  readonly end: Uint8Array | undefined;
}

/** What a permission can be given for. */
export function isValidRange({ key, rangeEnd }: KeyRange): boolean {
  if (key.length === 0) return false;
  return rangeEnd.length === 0 || isOpenEnded(rangeEnd) || Buffer.compare(key, rangeEnd) < 0;
}

/** A set of keys that answers whether a range is wholly in it. */
export class Intervals {
  /** In order, none touching the next. */
  readonly #merged: readonly Interval[];

  constructor(ranges: readonly KeyRange[]) {
    this.#merged = merged(ranges.map(intervalOf).sort((a, b) => Buffer.compare(a.begin, b.begin)));
  }

  contains(range: KeyRange): boolean {
    const wanted = intervalOf(range);
    const holder = this.#merged.findLast(({ begin }) => Buffer.compare(begin, wanted.begin) <= 0);
    if (holder === undefined || !isBefore(wanted.begin, holder.end)) return false;
    return isCovered(wanted.end, holder.end);
  }
}

function intervalOf({ key, rangeEnd }: KeyRange): Interval {
  if (rangeEnd.length === 0) return { begin: key, end: Buffer.concat([key, Uint8Array.of(0)]) };
  return { begin: key, end: isOpenEnded(rangeEnd) ? undefined : rangeEnd };
}

function merged(sorted: readonly Interval[]): Interval[] {
  const out: Interval[] = [];
  for (const next of sorted) {
    const last = out.at(-1);
    if (last === undefined || !touches(last, next)) out.push(next);
    else out[out.length - 1] = { begin: last.begin, end: later(last.end, next.end) };
  }
  return out;
}

function touches({ end }: Interval, { begin }: Interval): boolean {
  return end === undefined || Buffer.compare(begin, end) <= 0;
}

function isBefore(key: Uint8Array, end: Uint8Array | undefined): boolean {
  return end === undefined || Buffer.compare(key, end) < 0;
}

function isCovered(wanted: Uint8Array | undefined, end: Uint8Array | undefined): boolean {
  if (end === undefined) return true;
  return wanted !== undefined && Buffer.compare(wanted, end) <= 0;
}

function later(a: Uint8Array | undefined, b: Uint8Array | undefined): Uint8Array | undefined {
  return isCovered(a, b) ? b : a;
}
