/**
 * The audit of a whole log, from its tiles: each entry hashes to its leaf, each tile to the level above, all of it to the signed head; the
 * revisions are all there, in order; and an earlier head is one of the same log. Memory stays at a tile a level, whatever the size.
 */
import { bytesEqual } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { type Checkpoint, openCheckpoint } from './checkpoint.ts';
import { indexOf, type Leaf, parseLeaf } from './leaf.ts';
import {
  consistencyNodes,
  Edge,
  edgeOf,
  foldRoots,
  HASH_BYTES,
  leafHash,
  type Node,
  proofOf,
  verifyConsistency,
} from './merkle.ts';
import type { NoteKey } from './note.ts';
import {
  CHECKPOINT_PATH,
  hashAt,
  parseBundle,
  TILE_WIDTH,
  type Tile,
  TileHashes,
  tileOf,
  tilePath,
  tileWith,
} from './tiles.ts';

/** Gets a resource of the log by its path, at most so many bytes. */
export type Fetch = (path: string, maxBytes: number) => Promise<Uint8Array>;

const MAX_CHECKPOINT_BYTES = 64 * 1024;
const MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + 0xffff);

/** The log's newest head. @throws NOTE_*, CHECKPOINT_* */
export async function fetchHead(
  fetch: Fetch,
  origin: string,
  keys: readonly NoteKey[],
): Promise<Checkpoint & { readonly note: string }> {
  const note = new TextDecoder().decode(await fetch(CHECKPOINT_PATH, MAX_CHECKPOINT_BYTES));
  return { ...openCheckpoint(note, origin, keys), note };
}

/**
 * Refuses a log whose head does not continue an earlier one.
 * @throws LOG_FORKED; LOG_ROLLED_BACK for a head that is the smaller one
 */
export async function requireContinues(fetch: Fetch, earlier: Checkpoint, head: Checkpoint): Promise<void> {
  if (head.size < earlier.size) {
    throw new DstackError(
      'LOG_ROLLED_BACK',
      `the head has ${head.size} leaves, an earlier one ${earlier.size}`,
    );
  }
  const nodes = consistencyNodes(earlier.size, head.size);
  const proof = proofOf(nodes, await nodeHashes(fetch, head.size, nodes.flat()));
  if (!verifyConsistency(earlier.size, head.size, earlier.root, head.root, proof)) {
    throw new DstackError(
      'LOG_FORKED',
      `the heads of ${earlier.size} and of ${head.size} leaves are of two histories`,
    );
  }
}

/**
 * Refuses a log whose head does not continue an earlier one, which may be of a log that this one began with.
 * @throws LOG_FORKED; LOG_ROLLED_BACK for a head that has more than was taken over; CHECKPOINT_ORIGIN for one of another log
 */
export async function requireContinuesFrom(
  fetch: Fetch,
  earlier: Checkpoint,
  head: Checkpoint,
): Promise<void> {
  if (earlier.origin === head.origin) return requireContinues(fetch, earlier, head);
  const taken = head.continues?.find(({ origin }) => origin === earlier.origin);
  if (taken === undefined)
    throw new DstackError(
      'CHECKPOINT_ORIGIN',
      `the earlier head is of ${earlier.origin}, which ${head.origin} does not continue`,
    );
  if (earlier.size > taken.size)
    throw new DstackError(
      'LOG_ROLLED_BACK',
      `the store was restored from a backup of ${taken.size} leaves of ${earlier.origin}; the earlier head has ${earlier.size}: the writes of the last ${earlier.size - taken.size} are lost`,
    );
  return requireContinues(fetch, earlier, head);
}

export interface AuditOptions {
  /** The first leaf whose entry is read; those before it are taken from the tiles. */
  readonly from?: number;
  /** Told of each leaf that was read. */
  readonly onLeaf?: (leaf: Leaf, index: number) => void;
}

/**
 * @throws LOG_ROOT when the tiles are not those of the signed root, LOG_TILE when one is not what the level below makes it, LOG_ENTRY for an entry
 *   that is not its leaf's, LOG_GAP for a revision that is not the next, LEAF_INVALID, BUNDLE_INVALID
 */
export async function auditLog(fetch: Fetch, head: Checkpoint, options: AuditOptions = {}): Promise<void> {
  const { from = 0, onLeaf = () => {} } = options;
  await requireRoot(fetch, head);
  await requireLevels(fetch, head.size);
  for (let index = Math.floor(from / TILE_WIDTH); index * TILE_WIDTH < head.size; index += 1) {
    const tile = await fetchTile(fetch, tileOf(0, index, head.size)!);
    const bundle = tileOf('entries', index, head.size)!;
    const entries = parseBundle(await fetch(tilePath(bundle), MAX_BUNDLE_BYTES), bundle.width);
    entries.forEach((entry, at) => {
      const place = index * TILE_WIDTH + at;
      if (!bytesEqual(leafHash(entry), hashAt(tile, at))) {
        throw new DstackError('LOG_ENTRY', `entry ${place} is not the one of its leaf`);
      }
      const leaf = parseLeaf(entry);
      if (indexOf(leaf.revision) !== place) {
        throw new DstackError('LOG_GAP', `entry ${place} is of revision ${leaf.revision}`);
      }
      onLeaf(leaf, place);
    });
  }
}

async function requireRoot(fetch: Fetch, { size, root }: Checkpoint): Promise<void> {
  const edge = edgeOf(size);
  const hashes = await nodeHashes(fetch, size, edge);
  if (!bytesEqual(foldRoots(edge.map(hashes)), root)) {
    throw new DstackError('LOG_ROOT', `the tiles are not those of the signed root over ${size} leaves`);
  }
}

/** Each full tile is what its hash in the level above says. */
async function requireLevels(fetch: Fetch, size: number): Promise<void> {
  for (let level = 0; TILE_WIDTH ** (level + 1) <= size; level += 1) {
    let above: { index: number; bytes: Uint8Array } | undefined;
    for (let index = 0; (index + 1) * TILE_WIDTH ** (level + 1) <= size; index += 1) {
      const bytes = await fetchTile(fetch, tileOf(level, index, size)!);
      const parent = Math.floor(index / TILE_WIDTH);
      if (above?.index !== parent) {
        above = { index: parent, bytes: await fetchTile(fetch, tileOf(level + 1, parent, size)!) };
      }
      const edge = new Edge();
      for (let at = 0; at < TILE_WIDTH; at += 1) edge.append(hashAt(bytes, at));
      if (!bytesEqual(edge.root(), hashAt(above.bytes, index % TILE_WIDTH))) {
        throw new DstackError(
          'LOG_TILE',
          `${tilePath({ level, index, width: TILE_WIDTH })} is not the tile of its root`,
        );
      }
    }
  }
}

/** The hashes of these nodes, from as few tiles as they are in. */
export async function nodeHashes(
  fetch: Fetch,
  size: number,
  nodes: readonly Node[],
): Promise<(node: Node) => Uint8Array> {
  const tiles = new Map(nodes.map((node) => [tilePath(tileWith(node, size)), tileWith(node, size)]));
  const hashes = new Map<string, TileHashes>();
  for (const [path, tile] of tiles) hashes.set(path, new TileHashes(await fetchTile(fetch, tile)));
  return (node) => hashes.get(tilePath(tileWith(node, size)))!.of(node);
}

async function fetchTile(fetch: Fetch, tile: Tile): Promise<Uint8Array> {
  const length = tile.width * HASH_BYTES;
  const bytes = await fetch(tilePath(tile), length);
  if (bytes.length === length) return bytes;
  throw new DstackError('TILE_SHORT', `${tilePath(tile)} has ${bytes.length} bytes, not ${length}`);
}
