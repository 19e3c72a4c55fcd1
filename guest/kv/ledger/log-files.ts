/**
 * A log on the disk. Each file only grows, and a tile is a slice of one:
 *
 *     level0 … level6   the hashes of each level of tiles, one after another
 *     entries           the entries, as bundles have them
 *     records           what openings are made from: private, 4 bytes of length, then the records of the leaf, each behind its length
 *     places            for each bundle where it begins in `entries` and in `records`, 8 bytes each
 *     heads             two slots, written in turn: size, lengths and signed head of what is durable
 *
 * A batch is written and synced, all files at once, and only then the slot that says so. What is in a file behind the lengths of the newest sound slot is of
 * a batch that never came to its end, and is cut off at the next start: the slot's sum tells a torn one, the other slot is then the newest.
 */
import { type Static, Type } from 'typebox';
import { edgeOf, foldRoots, HASH_BYTES, leafHash, type Node } from '../../../lib/ledger/merkle.ts';
import { POLICY_MAX_BYTES } from '../../../lib/ledger/policy.ts';
import {
  bundled,
  hashAt,
  lengthOfLevel,
  parseBundle,
  TILE_WIDTH,
  type Tile,
  TileHashes,
  tileOf,
  tilePath,
  tileWith,
} from '../../../lib/ledger/tiles.ts';
import { bytesEqual, fromHex, sha256, toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { Count, HexUpTo, parseJson, Strict } from '../../../lib/protocol/schema.ts';
import type { Disk } from './disk.ts';

export const LEVELS = 7;
const levelFile = (level: number): string => `level${level}`;
export const FILES = [
  ...Array.from({ length: LEVELS }, (_, level) => levelFile(level)),
  'entries',
  'records',
  'places',
  'heads',
] as const;
const SLOT_BYTES = 65_536;
const SUM_BYTES = 32;
const PLACE_BYTES = 16;
/** Whole tiles whose hashes are kept: receipts of neighbours need the same. Some 16 kB each. */
const RECENT_TILES = 256;

const StateSchema = Strict({
  version: Type.Literal(1),
  size: Count,
  entries: Count,
  records: Count,
  /** Which of two slots is newer, when both are of one size. */
  sequence: Count,
  /** The policy in force after the last leaf, as the store has it, and since which leaf; absent where there never was one. */
  policy: Type.Optional(Strict({ value: HexUpTo(POLICY_MAX_BYTES), since: Count })),
  head: Type.String({ maxLength: 4_096 }),
});
export type LogState = Static<typeof StateSchema>;

/** Leaves that are not on the disk yet. */
export class Batch {
  readonly levels: Uint8Array[][] = Array.from({ length: LEVELS }, () => []);
  readonly entries: Uint8Array[] = [];
  readonly records: Uint8Array[] = [];
  readonly places: Uint8Array[] = [];
  count = 0;
}

export class LogFiles {
  readonly #disk: Disk;
  readonly #recent = new Map<string, TileHashes>();
  #state: LogState;
  /** Where the next leaf goes, of those taken into a batch. */
  #next: { entries: number; records: number };

  private constructor(disk: Disk, state: LogState) {
    this.#disk = disk;
    this.#state = state;
    this.#next = { entries: state.entries, records: state.records };
  }

  /** @throws LEDGER_MISMATCH when the files are not those of the newest head; the disk's errors */
  static async open(disk: Disk): Promise<LogFiles> {
    const files = new LogFiles(disk, await readState(disk));
    await files.#cutToState();
    return files;
  }

  /** What is durable. */
  get state(): LogState {
    return this.#state;
  }

  /** Puts a leaf into a batch. Batches are written in the order in which they were begun. */
  add(batch: Batch, index: number, entry: Uint8Array, records: readonly Uint8Array[]): void {
    if (index % TILE_WIDTH === 0) {
      const place = Buffer.allocUnsafe(PLACE_BYTES);
      place.writeBigUInt64BE(BigInt(this.#next.entries), 0);
      place.writeBigUInt64BE(BigInt(this.#next.records), 8);
      batch.places.push(place);
    }
    const bytes = bundled(entry);
    batch.entries.push(bytes);
    this.#next.entries += bytes.length;
    let length = 0;
    const parts = records.flatMap((record) => {
      length += 4 + record.length;
      return [uint32(record.length), record];
    });
    batch.records.push(uint32(length), ...parts);
    this.#next.records += 4 + length;
    batch.count += 1;
  }

  /** Makes a batch durable, with its head: when it returns, both are. One that found no room (`isNoRoom`) may be written again as it was. */
  async write(batch: Batch, head: Pick<LogState, 'head' | 'policy'>): Promise<void> {
    const { size, entries, records, sequence } = this.#state;
    const writes: [string, number, Uint8Array[]][] = [
      ['entries', entries, batch.entries],
      ['records', records, batch.records],
      ['places', Math.ceil(size / TILE_WIDTH) * PLACE_BYTES, batch.places],
      ...batch.levels.map((hashes, level): [string, number, Uint8Array[]] => [
        levelFile(level),
        lengthOfLevel(level, size) * HASH_BYTES,
        hashes,
      ]),
    ];
    let written = { entries: 0, records: 0 };
    await allSettledOrThrow(
      writes.map(async ([file, at, parts]) => {
        if (parts.length === 0) return;
        const bytes = Buffer.concat(parts);
        if (file === 'entries' || file === 'records') written = { ...written, [file]: bytes.length };
        await this.#disk.write(file, at, bytes);
        await this.#disk.sync(file);
      }),
    );
    const next: LogState = {
      version: 1,
      size: size + batch.count,
      entries: entries + written.entries,
      records: records + written.records,
      sequence: sequence + 1,
      ...head,
    };
    const bytes = slotBytes(next);
    const slot = (next.sequence % 2) * SLOT_BYTES;
    await this.#disk.write('heads', slot, bytes);
    await this.#disk.sync('heads');
    this.#state = next;
  }

  /** The hashes of these nodes, of what is durable. */
  async hashes(nodes: readonly Node[], size = this.#state.size): Promise<(node: Node) => Uint8Array> {
    const found = new Map<string, TileHashes>();
    for (const node of nodes) {
      const tile = tileWith(node, size);
      const path = tilePath(tile);
      if (!found.has(path)) found.set(path, this.#recent.get(path) ?? (await this.#hashesOf(tile, path)));
    }
    return (node) => found.get(tilePath(tileWith(node, size)))!.of(node);
  }

  async #hashesOf(tile: Tile, path: string): Promise<TileHashes> {
    const hashes = new TileHashes(await this.tile(tile));
    // A shorter one is soon another.
    if (tile.width < TILE_WIDTH) return hashes;
    this.#recent.set(path, hashes);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > RECENT_TILES) this.#recent.delete(oldest!);
    return hashes;
  }

  /** A tile's bytes, or a bundle's. */
  async tile({ level, index, width }: Tile): Promise<Uint8Array> {
    const first = index * TILE_WIDTH;
    if (level !== 'entries') return this.#disk.read(levelFile(level), first * HASH_BYTES, width * HASH_BYTES);
    const whole = tileOf('entries', index, this.#state.size)!;
    const bytes = await this.#slice('entries', index);
    if (whole.width === width) return bytes;
    return Buffer.concat(parseBundle(bytes, whole.width).slice(0, width).map(bundled));
  }

  /** One leaf's entry, and its records. */
  async leaf(index: number): Promise<{ entry: Uint8Array; records: Uint8Array[] }> {
    const bundle = Math.floor(index / TILE_WIDTH);
    const { width } = tileOf('entries', bundle, this.#state.size)!;
    const [entries, records] = await Promise.all([
      this.#slice('entries', bundle),
      this.#slice('records', bundle),
    ]);
    const at = index % TILE_WIDTH;
    return { entry: parseBundle(entries, width)[at]!, records: framed(framed(records)[at]!) };
  }

  /** @throws LEDGER_MISMATCH unless the tiles lead to this root, and the last entries are those of their leaves */
  async requireRoot(root: Uint8Array): Promise<void> {
    const { size } = this.#state;
    const edge = edgeOf(size);
    const hashes = await this.hashes(edge);
    if (!bytesEqual(foldRoots(edge.map(hashes)), root)) {
      throw mismatch(`the tiles are not those of the signed head of ${size} leaves`);
    }
    if (size === 0) return;
    const last = Math.floor((size - 1) / TILE_WIDTH);
    const tile = await this.tile(tileOf(0, last, size)!);
    const bundle = tileOf('entries', last, size)!;
    const entries = parseBundle(await this.tile(bundle), bundle.width);
    if (!entries.every((entry, at) => bytesEqual(leafHash(entry), hashAt(tile, at)))) {
      throw mismatch('the last entries are not those of their leaves');
    }
  }

  close(): Promise<void> {
    return this.#disk.close();
  }

  async #slice(file: 'entries' | 'records', bundle: number): Promise<Uint8Array> {
    const column = file === 'entries' ? 0 : 8;
    const isLast = (bundle + 1) * TILE_WIDTH >= this.#state.size;
    const end = this.#state[file];
    const places = await this.#disk.read(
      'places',
      bundle * PLACE_BYTES,
      isLast ? PLACE_BYTES : 2 * PLACE_BYTES,
    );
    const offset = (at: number) => Number(Buffer.from(places).readBigUInt64BE(at * PLACE_BYTES + column));
    const start = offset(0);
    return this.#disk.read(file, start, (isLast ? end : offset(1)) - start);
  }

  async #cutToState(): Promise<void> {
    for (const [file, length] of lengthsOf(this.#state)) {
      const found = await this.#disk.size(file);
      if (found < length) throw mismatch(`${file} has ${found} bytes, and the signed head is over ${length}`);
      if (found > length) await this.#disk.cut(file, length);
    }
  }
}

/** What is durable, by the newest sound slot. */
export async function readState(disk: Pick<Disk, 'size' | 'read'>): Promise<LogState> {
  return newest(await readSlot(disk, 0), await readSlot(disk, 1)) ?? EMPTY;
}

/** How long each file but `heads` is at least; what is behind that is of a batch without a head. */
export function lengthsOf({ size, entries, records }: LogState): [string, number][] {
  return [
    ['entries', entries],
    ['records', records],
    ['places', Math.ceil(size / TILE_WIDTH) * PLACE_BYTES],
    ...Array.from({ length: LEVELS }, (_, level): [string, number] => [
      levelFile(level),
      lengthOfLevel(level, size) * HASH_BYTES,
    ]),
  ];
}

const EMPTY: LogState = { version: 1, size: 0, entries: 0, records: 0, sequence: 0, head: '' };

function newest(one: LogState | undefined, other: LogState | undefined): LogState | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one.sequence > other.sequence ? one : other;
}

/** SHA-256 of what follows ‖ its length as 4 bytes ‖ JSON. */
function slotBytes(state: LogState): Uint8Array {
  const json = utf8(JSON.stringify(state));
  const body = Buffer.concat([uint32(json.length), json]);
  return Buffer.concat([sha256(body), body]);
}

async function readSlot(disk: Pick<Disk, 'size' | 'read'>, slot: number): Promise<LogState | undefined> {
  const at = slot * SLOT_BYTES;
  const available = Math.min((await disk.size('heads')) - at, SLOT_BYTES);
  if (available < SUM_BYTES + 4) return undefined;
  const bytes = Buffer.from(await disk.read('heads', at, available));
  const length = bytes.readUInt32BE(SUM_BYTES);
  const body = bytes.subarray(SUM_BYTES, SUM_BYTES + 4 + length);
  if (body.length !== 4 + length || !bytesEqual(sha256(body), bytes.subarray(0, SUM_BYTES))) return undefined;
  return parseJson(
    StateSchema,
    body.subarray(4).toString(),
    'LEDGER_MISMATCH',
    "the ledger's state",
    SLOT_BYTES,
  );
}

/** The parts of bytes in which each is behind its length. */
function framed(bytes: Uint8Array): Uint8Array[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < buffer.length; ) {
    const length = buffer.readUInt32BE(at);
    parts.push(buffer.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return parts;
}

/** Waits for all, so that nothing is still being written when a failure is told: one that is final before one that is not. */
async function allSettledOrThrow(promises: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
  if (failures.length > 0) throw failures.find((failure) => !isNoRoom(failure)) ?? failures[0];
}

/** A write, and no sync, that the disk had no room for: it is known what was not written. */
export const isNoRoom = (error: unknown): boolean =>
  error instanceof Error &&
  ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '') &&
  (error as NodeJS.ErrnoException).syscall === 'write';

function uint32(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export const mismatch = (why: string) => new DstackError('LEDGER_MISMATCH', `the ledger on the disk: ${why}`);

/** The policy's value as the state has it. */
export const policyBytes = (policy: NonNullable<LogState['policy']>): Uint8Array => fromHex(policy.value);
/** A value too long to be a policy is kept as one that can't be read either. */
export const policyState = (value: Uint8Array, since: number): NonNullable<LogState['policy']> => ({
  value: toHex(value.length > POLICY_MAX_BYTES ? new Uint8Array() : value),
  since,
});
