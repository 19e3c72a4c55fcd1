/**
 * The layout of C2SP tlog-tiles: a log as files that never change. A tile is 256 hashes of one level, each the root of 256 of the level
 * below (`tile/0/x001/067`); the last of a level is shorter and named for its width (`tile/0/x001/068.p/12`). Entries are in
 * bundles of 256, each behind its length as 2 bytes big-endian (`tile/entries/…`).
 */
import { DstackError } from '../protocol/errors.ts';
import { HASH_BYTES, type Node, nodeHash } from './merkle.ts';

export const TILE_WIDTH = 256;
/** 256 leaves are 8 levels of the tree. */
const TILE_HEIGHT = 8;
const MAX_LEVEL = 6;
export const MAX_ENTRY_BYTES = 0xffff;
export const CHECKPOINT_PATH = 'checkpoint';

export interface Tile {
  /** 0 for leaf hashes, 1 for roots of 256 of them …; `entries` for the entries themselves. */
  readonly level: number | 'entries';
  readonly index: number;
  /** 1 to 256. */
  readonly width: number;
}

export function tilePath({ level, index, width }: Tile): string {
  const groups = String(index)
    .padStart(Math.ceil(String(index).length / 3) * 3, '0')
    .match(/\d{3}/g)!;
  const name = groups.map((group, at) => (at === groups.length - 1 ? group : `x${group}`)).join('/');
  return `tile/${level}/${name}${width === TILE_WIDTH ? '' : `.p/${width}`}`;
}

/** The tile of a path, if it is one in its only spelling. */
export function parseTilePath(path: string): Tile | undefined {
  const match = /^tile\/(entries|[0-9]{1,2})\/((?:x\d{3}\/){0,4}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/.exec(path);
  if (match === null) return undefined;
  const level = match[1] === 'entries' ? ('entries' as const) : Number(match[1]);
  const tile = {
    level,
    index: Number(match[2]!.replaceAll(/[x/]/g, '')),
    width: match[3] === undefined ? TILE_WIDTH : Number(match[3]),
  };
  if (level !== 'entries' && level > MAX_LEVEL) return undefined;
  return tilePath(tile) === path && Number.isSafeInteger(tile.index) ? tile : undefined;
}

/** How many hashes (or entries) a level has in a tree of this size. */
export function lengthOfLevel(level: Tile['level'], size: number): number {
  return level === 'entries' ? size : Math.floor(size / TILE_WIDTH ** level);
}

/** The tile at a place, as wide as a tree of this size has it; undefined when it has none there. */
export function tileOf(level: Tile['level'], index: number, size: number): Tile | undefined {
  const width = Math.min(TILE_WIDTH, lengthOfLevel(level, size) - index * TILE_WIDTH);
  return width > 0 ? { level, index, width } : undefined;
}

/** Whether a tree of this size has the tile, in this width or a larger one. */
export function hasTile(tile: Tile, size: number): boolean {
  return tile.index * TILE_WIDTH + tile.width <= lengthOfLevel(tile.level, size);
}

/** Where a perfect subtree is: the tile of its leaves-within-the-tile, which of them it starts at, and how many it spans. */
export function placeOf({ level, index }: Node): {
  level: number;
  index: number;
  from: number;
  count: number;
} {
  const tileLevel = Math.floor(level / TILE_HEIGHT);
  const count = 2 ** (level % TILE_HEIGHT);
  const first = index * count;
  return { level: tileLevel, index: Math.floor(first / TILE_WIDTH), from: first % TILE_WIDTH, count };
}

/** The tile that has a node in a tree of this size. */
export function tileWith(node: Node, size: number): Tile {
  const { level, index } = placeOf(node);
  const tile = tileOf(level, index, size);
  if (tile === undefined) throw new DstackError('MERKLE_RANGE', `a tree of ${size} has no such node`);
  return tile;
}

/** A tile with the hashes between its own and the next level's, which are made when they are first asked for. */
export class TileHashes {
  /** Row k: the roots over 2^k neighbours, as many as are complete. */
  readonly #rows: Uint8Array[];

  constructor(bytes: Uint8Array) {
    this.#rows = [bytes];
  }

  /** The hash of a perfect subtree that is in this tile (`tileWith`). @throws TILE_SHORT */
  of(node: Node): Uint8Array {
    const { from, count } = placeOf(node);
    const tile = this.#rows[0]!;
    if (tile.length < (from + count) * HASH_BYTES) {
      throw new DstackError('TILE_SHORT', `a tile of ${tile.length} bytes has no hash ${from + count - 1}`);
    }
    return hashAt(this.#row(Math.log2(count)), from / count);
  }

  #row(level: number): Uint8Array {
    const known = this.#rows[level];
    if (known !== undefined) return known;
    const below = this.#row(level - 1);
    const length = Math.floor(below.length / (2 * HASH_BYTES));
    const row = Buffer.allocUnsafe(length * HASH_BYTES);
    for (let at = 0; at < length; at += 1) {
      row.set(nodeHash(hashAt(below, 2 * at), hashAt(below, 2 * at + 1)), at * HASH_BYTES);
    }
    this.#rows[level] = row;
    return row;
  }
}

export function hashAt(tile: Uint8Array, at: number): Uint8Array {
  return tile.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES);
}

/** The entries of a bundle. @throws BUNDLE_INVALID unless there are exactly `width` */
export function parseBundle(bytes: Uint8Array, width: number): Uint8Array[] {
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at + 2 <= bytes.length && entries.length < width) {
    const length = (bytes[at]! << 8) | bytes[at + 1]!;
    if (at + 2 + length > bytes.length) break;
    entries.push(bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  if (at !== bytes.length || entries.length !== width) {
    throw new DstackError('BUNDLE_INVALID', `the bundle does not hold ${width} entries and nothing else`);
  }
  return entries;
}

/** An entry as it stands in its bundle. @throws ENTRY_TOO_LONG */
export function bundled(entry: Uint8Array): Uint8Array {
  if (entry.length > MAX_ENTRY_BYTES) {
    throw new DstackError(
      'ENTRY_TOO_LONG',
      `an entry has up to ${MAX_ENTRY_BYTES} bytes, not ${entry.length}`,
    );
  }
  const bytes = Buffer.allocUnsafe(2 + entry.length);
  bytes.writeUInt16BE(entry.length);
  bytes.set(entry, 2);
  return bytes;
}
