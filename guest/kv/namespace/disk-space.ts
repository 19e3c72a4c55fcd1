/**
 * Whether the disk under etcd has room left. Etcd ends when a write to its disk fails, and so does the ledger, so writes are refused before that: in
 * etcd's own words for a store that is full. What deletes is still done.
 */
import { statfs } from 'node:fs/promises';

/** Bytes: the next file of etcd's log, which has 64 MB from the start, and what is written in the seconds around. */
const LEAST = 96 * 1024 * 1024;

export class DiskSpace {
  readonly #folder: string;
  readonly #least: number;
  #isFull = false;

  constructor(folder: string, least = LEAST) {
    this.#folder = folder;
    this.#least = least;
  }

  /** As of the last look. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Whether that has changed. @throws the file system's error */
  async look(): Promise<boolean> {
    const { bavail, bsize } = await statfs(this.#folder);
    const before = this.#isFull;
    this.#isFull = bavail * bsize < this.#least;
    return this.#isFull !== before;
  }
}
