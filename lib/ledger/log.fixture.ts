/** A log in memory, made from events: what tests read, forge and audit. */

import { parseAddress } from '../protocol/hex.ts';
import { ledgerKey, ledgerSaltKey } from '../protocol/keys.ts';
import { originOf, signCheckpoint } from './checkpoint.ts';
import { type BuiltLeaf, buildLeaf, openingOf, parseLeaf, revisionAt } from './leaf.ts';
import { inclusionNodes, leafHash, type Node, proofOf, rootOf } from './merkle.ts';
import { type NoteSigner, noteSigner } from './note.ts';
import { type LeafPolicy, NOTHING_PUBLIC, policyAfter } from './policy.ts';
import { formatReceipt, type Receipt } from './receipt.ts';
import type { LedgerEvent } from './record.ts';
import { SaltKey } from './salt.ts';
import { bundled, TILE_WIDTH, tileOf, tilePath } from './tiles.ts';

export const secret = new Uint8Array(32).fill(7);
export const logId = new Uint8Array(16).fill(3);
export const origin = originOf({ chainId: 31337, contract: parseAddress(`0x${'Ab'.repeat(20)}`) }, logId);
export const signer: NoteSigner = noteSigner(origin, ledgerKey(secret, 1, logId));
export const salts = new SaltKey(ledgerSaltKey(secret, 1, logId));

export const put = (key: string, value: string, more: Partial<LedgerEvent> = {}): LedgerEvent => ({
  type: 'put',
  key: Buffer.from(key),
  value: Buffer.from(value),
  lease: 0n,
  version: 1n,
  createRevision: 2n,
  ...more,
});

export const remove = (key: string): LedgerEvent => ({
  ...put(key, ''),
  type: 'delete',
  version: 0n,
  createRevision: 0n,
});

export class MemoryLog {
  readonly leaves: BuiltLeaf[] = [];
  #policy: LeafPolicy = NOTHING_PUBLIC;

  constructor(revisions: readonly (readonly LedgerEvent[])[]) {
    for (const events of revisions) {
      this.leaves.push(buildLeaf(revisionAt(this.leaves.length), events, this.#policy, salts));
      this.#policy = policyAfter(this.#policy, events);
    }
  }

  get size(): number {
    return this.leaves.length;
  }

  hashOf({ level, index }: Node): Uint8Array {
    const width = 2 ** level;
    return rootOf(this.leaves.slice(index * width, (index + 1) * width).map(({ entry }) => leafHash(entry)));
  }

  root(size = this.size): Uint8Array {
    return rootOf(this.leaves.slice(0, size).map(({ entry }) => leafHash(entry)));
  }

  checkpoint(size = this.size, time = 1_764_421_380): string {
    return signCheckpoint({ origin, size, root: this.root(size), time }, [signer]);
  }

  /** Every file that a tree of this size has. */
  files(size = this.size): Map<string, Buffer> {
    const files = new Map([['checkpoint', Buffer.from(this.checkpoint(size))]]);
    for (let index = 0; index * TILE_WIDTH < size; index += 1) {
      const tile = tileOf('entries', index, size)!;
      const first = index * TILE_WIDTH;
      const entries = this.leaves.slice(first, first + tile.width).map(({ entry }) => bundled(entry));
      files.set(tilePath(tile), Buffer.concat(entries));
    }
    for (let level = 0; TILE_WIDTH ** level <= size; level += 1) {
      for (let index = 0; ; index += 1) {
        const tile = tileOf(level, index, size);
        if (tile === undefined) break;
        const hashes = Array.from({ length: tile.width }, (_, at) =>
          this.hashOf({ level: 8 * level, index: index * TILE_WIDTH + at }),
        );
        files.set(tilePath(tile), Buffer.concat(hashes));
      }
    }
    return files;
  }

  receipt(index: number, events?: readonly number[], more: Partial<Receipt> = {}): string {
    const { entry, records } = this.leaves[index]!;
    const leaf = parseLeaf(entry);
    const shown = events ?? records.map((_, at) => at);
    return formatReceipt({
      entry,
      namespace: Buffer.from('o/'),
      openings: shown.map((at) => openingOf(leaf, records, at, salts)),
      proof: proofOf(inclusionNodes(index, this.size), (node) => this.hashOf(node)),
      checkpoint: this.checkpoint(),
      ...more,
    });
  }
}

/** The log's files as `auditLog` fetches them. */
export const fetchFrom = (files: ReadonlyMap<string, Uint8Array>) => (path: string) => {
  const bytes = files.get(path);
  return bytes === undefined ? Promise.reject(new Error(`no ${path}`)) : Promise.resolve(bytes);
};
