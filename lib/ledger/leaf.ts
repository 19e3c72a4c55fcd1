/**
 * A leaf of the ledger: what one revision of the store did, derived from its events and the ledger's keys alone, so that every
 * replica makes the same bytes.
 *
 *     entry = version (1) ‖ revision (8) ‖ number of events (4) ‖ log2 of events a row (1)
 *             ‖ rows (32 each) ‖ number of readable events (2) ‖ each: index (4), record, value (both behind 4 bytes of length)
 *             ‖ number of leases (2) ‖ each: index (4), lease (8)
 *
 * An event's record (record.ts) is committed to as SHA-256(0x00 ‖ salt ‖ record). The salt is HMAC-SHA256(salt key, revision ‖ index):
 * who does not have it can't guess a key, and who is told one event's learns nothing of its neighbours. What is under a public prefix
 * stands in the entry, with a salt of zeros. A row is one commitment; a revision of more than 1,024 events has rows
 * over 2, 4, … neighbours, each the root of a tree of theirs.
 */
import { bytesEqual, toHex, uint64 } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import {
  HASH_BYTES,
  inclusionNodes,
  leafHash,
  proofOf,
  rootFromInclusion,
  rootOf,
  sha256Of,
} from './merkle.ts';
import { isPublic, type LeafPolicy } from './policy.ts';
import { type EventRecord, type LedgerEvent, parseRecord, recordOf } from './record.ts';
import type { Salts } from './salt.ts';

export const LEAF_VERSION = 1;
const MAX_ROWS = 1_024;
/** What may be readable in one entry, of the 65,535 bytes that it may have. */
const READABLE_BYTES = 16_384;
const READABLE_VALUE_BYTES = 1_024;
const MAX_LEASES = 1_024;
export const NO_SALT: Uint8Array = new Uint8Array(32);

/** The first revision that writes something is etcd's second. */
export const FIRST_REVISION = 2n;
export const indexOf = (revision: bigint): number => Number(revision - FIRST_REVISION);
export const revisionAt = (index: number): bigint => BigInt(index) + FIRST_REVISION;

export interface ReadableEvent {
  readonly index: number;
  readonly record: EventRecord;
  /** Absent when it is too long to stand in an entry. */
  readonly value?: Uint8Array;
}

export interface Leaf {
  readonly revision: bigint;
  readonly count: number;
  /** Events a row: a power of two. */
  readonly perRow: number;
  readonly rows: readonly Uint8Array[];
  readonly readable: readonly ReadableEvent[];
  /** Of events that are not readable, when the policy publishes leases. */
  readonly leases: ReadonlyMap<number, bigint>;
}

/** One event taken out of a leaf: enough for anyone to see that it is in it. */
export interface Opening {
  readonly index: number;
  readonly salt: Uint8Array;
  readonly record: Uint8Array;
  /** From the commitment to its row, as an inclusion proof; empty where a row is one event. */
  readonly path: readonly Uint8Array[];
}

export interface BuiltLeaf {
  readonly entry: Uint8Array;
  /** Of each event in order: what openings are made from. Private. */
  readonly records: readonly Uint8Array[];
}

export function buildLeaf(
  revision: bigint,
  events: readonly LedgerEvent[],
  policy: LeafPolicy,
  salts: Salts,
): BuiltLeaf {
  const records = events.map(recordOf);
  const perRow = rowOf(events.length);
  const readable = perRow === 1 ? readableOf(events, records, policy) : new Map<number, Uint8Array>();
  const commitments = records.map((record, index) =>
    commitment(readable.has(index) ? NO_SALT : salts.salt(revision, index), record),
  );
  const rows = perRow === 1 ? commitments : rowsOf(commitments, perRow);
  const leases = policy.leases ? leasesOf(events, readable) : [];
  const head = Buffer.allocUnsafe(14);
  head[0] = LEAF_VERSION;
  head.writeBigUInt64BE(revision, 1);
  head.writeUInt32BE(events.length, 9);
  head[13] = Math.log2(perRow);
  const entry = Buffer.concat([
    head,
    ...rows,
    uint16(readable.size),
    ...readable.values(),
    uint16(leases.length),
    ...leases,
  ]);
  return { entry, records };
}

/**
 * What an entry says. Its readable events are those that it commits to.
 * @throws LEAF_INVALID for bytes that no leaf has
 */
export function parseLeaf(entry: Uint8Array): Leaf {
  const reader = new Reader(entry);
  if (reader.uint8() !== LEAF_VERSION) throw invalid(`it is of version ${entry[0]}`);
  const revision = reader.uint64();
  const count = reader.uint32();
  const perRow = 2 ** reader.uint8();
  if (revision < FIRST_REVISION || count === 0 || perRow !== rowOf(count)) {
    throw invalid(`revision ${revision} with ${count} events, ${perRow} a row`);
  }
  const rows = Array.from({ length: Math.ceil(count / perRow) }, () => reader.take(HASH_BYTES));
  const readable = Array.from({ length: reader.uint16() }, () => {
    const index = reader.uint32();
    const bytes = reader.take(reader.uint32());
    const value = reader.take(reader.uint32());
    if (perRow !== 1 || index >= count || !bytesEqual(rows[index]!, commitment(NO_SALT, bytes))) {
      throw invalid(`the readable event ${index} is not the one that it commits to`);
    }
    const record = parseRecord(bytes);
    const isWhole = bytesEqual(sha256Of(value), record.valueHash);
    if (!isWhole && value.length > 0) throw invalid(`the readable value of event ${index} is another`);
    return { index, record, ...(isWhole ? { value } : {}) };
  });
  const leases = Array.from({ length: reader.uint16() }, () => [reader.uint32(), reader.uint64()] as const);
  reader.end();
  const indices = [readable.map(({ index }) => index), leases.map(([index]) => index)];
  if (
    !indices.every((list) => list.every((index, at) => index < count && (at === 0 || index > list[at - 1]!)))
  )
    throw invalid('its parts are not in order');
  return { revision, count, perRow, rows, readable, leases: new Map(leases) };
}

/** @param records of all events of the leaf */
export function openingOf(leaf: Leaf, records: readonly Uint8Array[], index: number, salts: Salts): Opening {
  const saltOf = (at: number) =>
    leaf.readable.some((event) => event.index === at) ? NO_SALT : salts.salt(leaf.revision, at);
  const first = index - (index % leaf.perRow);
  const row = records
    .slice(first, first + leaf.perRow)
    .map((record, at) => commitment(saltOf(first + at), record));
  const path = proofOf(inclusionNodes(index - first, row.length), (node) =>
    rootOf(row.slice(node.index * 2 ** node.level, (node.index + 1) * 2 ** node.level)),
  );
  return { index, salt: saltOf(index), record: records[index]!, path };
}

/** The event that an opening shows. @throws OPENING_INVALID unless the leaf commits to exactly that event there */
export function checkOpening(leaf: Leaf, { index, salt, record, path }: Opening): EventRecord {
  const row = leaf.rows[Math.floor(index / leaf.perRow)];
  const first = index - (index % leaf.perRow);
  const width = Math.min(leaf.perRow, leaf.count - first);
  const root =
    salt.length === NO_SALT.length
      ? rootFromInclusion(index - first, width, commitment(salt, record), path)
      : undefined;
  if (index >= leaf.count || row === undefined || root === undefined || !bytesEqual(root, row)) {
    throw new DstackError('OPENING_INVALID', `the leaf commits to another event ${index} than the one shown`);
  }
  const event = parseRecord(record);
  const lease = leaf.leases.get(index);
  if (lease !== undefined && lease !== event.lease) {
    throw new DstackError('OPENING_INVALID', `the leaf says of event ${index} that it has lease ${lease}`);
  }
  return event;
}

const commitment = (salt: Uint8Array, record: Uint8Array): Uint8Array =>
  leafHash(Buffer.concat([salt, record]));

function rowOf(count: number): number {
  let perRow = 1;
  while (Math.ceil(count / perRow) > MAX_ROWS) perRow *= 2;
  return perRow;
}

function rowsOf(commitments: readonly Uint8Array[], perRow: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(commitments.length / perRow) }, (_, at) =>
    rootOf(commitments.slice(at * perRow, (at + 1) * perRow)),
  );
}

/** The bytes of each event that stands in the entry, by index: those under public prefixes, as long as there is room. */
function readableOf(
  events: readonly LedgerEvent[],
  records: readonly Uint8Array[],
  policy: LeafPolicy,
): Map<number, Uint8Array> {
  const readable = new Map<number, Uint8Array>();
  let room = READABLE_BYTES;
  events.forEach(({ key, value }, index) => {
    if (!isPublic(policy, key)) return;
    const shown = value.length <= READABLE_VALUE_BYTES ? value : new Uint8Array();
    const record = records[index]!;
    const length = 12 + record.length + shown.length;
    if (length > room) return;
    room -= length;
    readable.set(
      index,
      Buffer.concat([uint32(index), uint32(record.length), record, uint32(shown.length), shown]),
    );
  });
  return readable;
}

function leasesOf(events: readonly LedgerEvent[], readable: ReadonlyMap<number, unknown>): Uint8Array[] {
  const leases = events.flatMap(({ lease }, index) =>
    lease === 0n || readable.has(index)
      ? []
      : [Buffer.concat([uint32(index), uint64(BigInt.asUintN(64, lease))])],
  );
  return leases.slice(0, MAX_LEASES);
}

function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Reads an entry's fields; a field beyond its end is LEAF_INVALID. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  take(length: number): Uint8Array {
    if (this.#at + length > this.#bytes.length)
      throw invalid(`it ends within ${toHex(this.#bytes.subarray(0, 14))}…`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  uint8(): number {
    return this.take(1)[0]!;
  }

  uint16(): number {
    return Buffer.from(this.take(2)).readUInt16BE();
  }

  uint32(): number {
    return Buffer.from(this.take(4)).readUInt32BE();
  }

  uint64(): bigint {
    return Buffer.from(this.take(8)).readBigUInt64BE();
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw invalid('bytes follow it');
  }
}

const invalid = (why: string) => new DstackError('LEAF_INVALID', `not a leaf of the ledger: ${why}`);
