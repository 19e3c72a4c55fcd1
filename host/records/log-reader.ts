/** Reads the log's entries one after the other, and tells where they end: at the end of the file, or at bytes that are no entry. */
import { readSync } from 'node:fs';
import { MAX_RECORD_BYTES } from '../../lib/protocol/records/codec.ts';
import { BEGINS_GROUP, ENTRY_HEAD_BYTES, type EntryFormat, type EntryHead } from './log-format.ts';

const MAX_ENTRY_BYTES = ENTRY_HEAD_BYTES + MAX_RECORD_BYTES;
const WINDOW_BYTES = 1 << 20;

export interface Entry extends EntryHead {
  /** Only until the next one is read. */
  readonly record: Buffer;
}

export class LogReader {
  readonly #fd: number;
  readonly #format: EntryFormat;
  readonly size: number;
  readonly #window: Buffer;
  /** What of the file is in the window. */
  #from = 0;
  #to = 0;

  constructor(fd: number, size: number, format: EntryFormat) {
    this.#fd = fd;
    this.size = size;
    this.#format = format;
    this.#window = Buffer.allocUnsafe(WINDOW_BYTES + MAX_ENTRY_BYTES);
  }

  /** The entries from this place on, up to the first that is none. */
  *entries(from: number): Generator<Entry> {
    for (let at = from; ; ) {
      const entry = this.entryAt(at);
      if (entry === undefined) return;
      yield entry;
      at = endOf(entry);
    }
  }

  entryAt(at: number): Entry | undefined {
    const bytes = this.#bytesAt(at);
    const head = this.#format.head(bytes, at);
    const record = head && this.#format.record(bytes, head);
    return record && { ...head!, record };
  }

  /** The next place from `at` on where there is an entry, of the beginning of a group if `begins`. Every byte is tried. */
  nextEntry(at: number, begins: boolean): Entry | undefined {
    for (let place = at; place + ENTRY_HEAD_BYTES <= this.size; place++) {
      const entry = this.entryAt(place);
      if (entry !== undefined && (!begins || (entry.flags & BEGINS_GROUP) !== 0)) return entry;
    }
    return undefined;
  }

  /** As many bytes as an entry may have, or up to the end of the file. */
  #bytesAt(at: number): Buffer {
    const wanted = Math.min(at + MAX_ENTRY_BYTES, this.size);
    if (at < this.#from || wanted > this.#to) this.#fill(at);
    return this.#window.subarray(at - this.#from, Math.max(at, this.#to) - this.#from);
  }

  #fill(at: number): void {
    this.#from = at;
    this.#to = at;
    const end = Math.min(at + this.#window.length, this.size);
    while (this.#to < end) {
      const count = readSync(this.#fd, this.#window, this.#to - at, end - this.#to, this.#to);
      if (count === 0) return;
      this.#to += count;
    }
  }
}

export const endOf = ({ at, length }: EntryHead): number => at + ENTRY_HEAD_BYTES + length;
