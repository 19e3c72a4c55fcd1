/** Finds thousands of patterns in one pass over hundreds of megabytes. */
import { open, stat } from 'node:fs/promises';
import type { Pattern } from './encodings.ts';
import { keyStructures } from './structures.ts';

const CHUNK = 8 * 1024 * 1024;
/** Bits of the filter: it has to stay in the processor's cache, and lets one position in thirty through. */
const FILTER_BITS = 18;

export interface Findings {
  /** What was found, and where. */
  readonly hits: string[];
  /** What was looked through, in bytes, by name. */
  readonly seen: Map<string, number>;
}

export class Search {
  readonly #filter = new Uint8Array(2 ** FILTER_BITS);
  readonly #byStart = new Map<number, Pattern[]>();
  readonly #longest: number;
  readonly patterns: readonly Pattern[];
  readonly findings: Findings = { hits: [], seen: new Map() };

  constructor(patterns: readonly Pattern[]) {
    this.patterns = patterns;
    this.#longest = Math.max(4096, ...patterns.map(({ bytes }) => bytes.length));
    for (const pattern of patterns) {
      const start = pattern.bytes.readInt32LE(0);
      this.#filter[slot(start)] = 1;
      const same = this.#byStart.get(start);
      if (same === undefined) this.#byStart.set(start, [pattern]);
      else same.push(pattern);
    }
  }

  /** Looks through bytes that are called `where`. */
  bytes(where: string, bytes: Buffer): void {
    this.#count(where, bytes.length);
    this.#hit(where, bytes);
  }

  /** Looks through a file, or a device of known size; sparse parts are zeros, and found nowhere. */
  async file(path: string): Promise<void> {
    const { size } = await stat(path);
    this.#count(path, size);
    const file = await open(path, 'r');
    try {
      // What crosses the end of a chunk is searched again with the next one.
      const buffer = Buffer.alloc(CHUNK + this.#longest);
      for (let at = 0; at < size; at += CHUNK) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        this.#hit(path, buffer.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  }

  #count(where: string, bytes: number): void {
    const { seen } = this.findings;
    seen.set(where, (seen.get(where) ?? 0) + bytes);
  }

  #hit(where: string, bytes: Buffer): void {
    for (const name of [...this.#matches(bytes), ...keyStructures(bytes)]) {
      const hit = `${name} in ${where}`;
      if (!this.findings.hits.includes(hit)) this.findings.hits.push(hit);
    }
  }

  *#matches(bytes: Buffer): Generator<string> {
    const filter = this.#filter;
    for (let at = nextCandidate(bytes, 0, filter); at >= 0; at = nextCandidate(bytes, at + 1, filter)) {
      for (const pattern of this.#byStart.get(bytes.readInt32LE(at)) ?? []) {
        const end = Math.min(at + pattern.bytes.length, bytes.length);
        if (bytes.compare(pattern.bytes, 0, undefined, at, end) === 0) yield pattern.name;
      }
    }
  }
}

/** The next position, from this one on, at which a pattern may begin; -1 when there is none. */
function nextCandidate(bytes: Buffer, from: number, filter: Uint8Array): number {
  if (from + 4 > bytes.length) return -1;
  // Four bytes as a little-endian number: a window that moves by one.
  let start = bytes.readInt32LE(from) << 8;
  for (let at = from + 3; at < bytes.length; at++) {
    start = (start >>> 8) | (bytes[at]! << 24);
    if (filter[slot(start)] === 1) return at - 3;
  }
  return -1;
}

/** Knuth's multiplicative hash. */
function slot(start: number): number {
  return Math.imul(start, 0x9e3779b1) >>> (32 - FILTER_BITS);
}
