/** Answers to whoever looks for records: sets of records that conflict, and in each the candidates in the order in which to believe them. */
import { bytesEqual, fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { type Contender, rank } from '../../lib/protocol/records/conflicts.ts';
import { type DagRecord, MAX_SELECTORS, MAX_TIMESTAMP } from '../../lib/protocol/records/format.ts';
import { trustOf } from '../../lib/protocol/records/trust.ts';
import type { NameQuery, RecordIndex, Row, TimeRange } from './index.ts';
import type { Place } from './log.ts';

/** So many records are looked at for one answer, unless the question says less; and so many bytes of them. */
export const MOST_RECORDS = 10_000;
const MOST_BYTES = 16 << 20;
/** Of each name; a range of ordinals is at most 126. */
const MOST_TAG_RANGES = 512;
const MOST_OWNERS = 256;
const MOST_ORACLES = 64;
/** Of one conflict; the others count with their own work alone, and those least trusted are these. */
const MOST_WEIGHED = 64;

/** What records are looked for by: all of these. */
export interface RecordQuery extends Partial<TimeRange> {
  /** Of each of these names, an ordinal in one of its ranges. Records of the first one are looked at. */
  readonly names?: readonly NameQuery[];
  readonly owners?: readonly string[];
  /** So many records are looked at; absent: the most. */
  readonly limit?: number;
  /** Owners whose opinion the reader asks for. */
  readonly oracles?: readonly Uint8Array[];
}

/** One owner's newest record of a set. */
export interface Candidate {
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly owner: string;
  readonly timestamp: number;
  /** 0 to 1: trust.ts. */
  readonly trust: number;
  /** This node saw another owner's first. */
  readonly isCollider: boolean;
  /** The authority took its certificate back. */
  readonly isRevoked: boolean;
  /** Which of the reader's oracles suspect it. */
  readonly suspectedBy: readonly string[];
  /** Of its owner's heaviest record of the set. Absent where there is one owner, and nothing to weigh. */
  readonly weight?: number;
  /** The timestamp of its owner's first record of the set: of equal trust and weight, the earlier comes first. Absent likewise. */
  readonly since?: number;
}

export interface Answer {
  /** In each, the one to believe first. */
  readonly sets: readonly (readonly Candidate[])[];
  /** There is more than was looked at: ask for less. */
  readonly isCut: boolean;
}

/** What an answer is made from. */
export interface Records {
  readonly index: RecordIndex;
  read(place: Place): Uint8Array;
  weigh(row: number): number;
}

interface Found extends Omit<Candidate, 'weight' | 'since'> {
  readonly row: Row;
}

/** @throws RECORDS_QUERY for one that asks for nothing, or for more than one answer is made from */
export function answer(records: Records, query: RecordQuery): Answer {
  requireBounded(query);
  const { names = [], limit = MOST_RECORDS, oracles = [] } = query;
  const rows = lookedAt(records.index, query, limit + 1);
  const sets = new Map<string, Found[]>();
  const revoked = new Map<number, boolean>();
  let bytesLeft = MOST_BYTES;
  let looked = 0;
  for (const row of rows.slice(0, limit)) {
    const isOther = !isWithin(row, query);
    bytesLeft -= isOther ? 0 : row.place.length;
    if (bytesLeft < 0) break;
    looked += 1;
    if (isOther) continue;
    const bytes = records.read(row.place);
    const record = decodeRecord(bytes);
    if (!names.every((name) => hasName(record, name))) continue;
    const key = record.selectors.length === 0 ? row.id : conflictOf(record);
    const set = sets.get(key) ?? [];
    sets.set(key, set);
    set.push(found(records.index, row, bytes, { oracles, revoked }));
  }
  return {
    sets: [...sets.values()].map((set) => ranked(set, records)),
    isCut: looked < rows.length,
  };
}

/** By what narrows it down the most; the rest of the question is asked of each of these. */
function lookedAt(index: RecordIndex, { names = [], owners, ...query }: RecordQuery, limit: number): Row[] {
  if (names[0] !== undefined) return index.byName(names[0], limit);
  const time = timeOf(query);
  return owners === undefined ? index.byTime(time, limit) : index.byOwners([...new Set(owners)], time, limit);
}

const timeOf = ({ from = 0, to = MAX_TIMESTAMP }: Pick<RecordQuery, 'from' | 'to'>): TimeRange => ({
  from,
  to,
});

function isWithin({ owner, timestamp }: Row, query: RecordQuery): boolean {
  const { from, to } = timeOf(query);
  return timestamp >= from && timestamp <= to && (query.owners?.includes(owner) ?? true);
}

/** Whether a record has one of these ordinals of a name. */
export function hasName({ selectors }: DagRecord, { claimKey, tags }: NameQuery): boolean {
  const selector = selectors.find((one) => bytesEqual(one.claimKey, claimKey));
  return (
    selector !== undefined &&
    tags.some(
      ({ from, to }) =>
        Buffer.compare(from, selector.ordinalTag) <= 0 && Buffer.compare(selector.ordinalTag, to) <= 0,
    )
  );
}

/** The same for the same records as `conflictKey`, within one answer: it costs no hash. */
function conflictOf({ selectors, shared, owner }: DagRecord): string {
  const parts = selectors.flatMap(({ claimKey, ordinalTag }) => [claimKey, ordinalTag]);
  return Buffer.concat(shared ? [...parts, owner] : parts).toString('latin1');
}

/** Whether this node itself would build on it: it saw no other owner's first, and nobody took its certificate back. */
export function isTrusted(index: RecordIndex, row: Row): boolean {
  return !row.isCollider && !isRevoked(index, row);
}

/** `revoked` is what is known of certificates, which many records share. */
function found(
  index: RecordIndex,
  row: Row,
  bytes: Uint8Array,
  { oracles, revoked }: { oracles: readonly Uint8Array[]; revoked: Map<number, boolean> },
): Found {
  const { id, owner, timestamp, isCollider, certificate = 0 } = row;
  const known = revoked.get(certificate) ?? isRevoked(index, row);
  revoked.set(certificate, known);
  const standing = { isCollider, isRevoked: known };
  // Most readers name none, and what is asked of hundreds of records adds up.
  const suspecting = oracles.length === 0 ? [] : index.suspecting(id, oracles);
  const opinions = suspecting.map((oracle) => ({
    oracle,
    subject: fromHex(id),
    opinion: 'suspect' as const,
  }));
  const trust = trustOf(standing, opinions, oracles);
  return { row, id, bytes, owner, timestamp, trust, ...standing, suspectedBy: suspecting.map(toHex) };
}

function isRevoked(index: RecordIndex, { certificate }: Row): boolean {
  return certificate !== undefined && index.isRevoked(certificate);
}

function ranked(set: readonly Found[], records: Records): Candidate[] {
  const [only] = set;
  if (set.length === 1) return [withoutRow(only!)];
  const hasConflict = set.some(({ owner }) => owner !== set[0]!.owner);
  // Weighing reads much of the graph: work for those that could come first.
  const heavy = new Set(
    hasConflict
      ? set.toSorted((a, b) => b.trust - a.trust || a.row.row - b.row.row).slice(0, MOST_WEIGHED)
      : [],
  );
  const contenders = set.map(
    (one): Contender => ({
      id: fromHex(one.id),
      owner: fromHex(one.owner),
      timestamp: one.timestamp,
      trust: one.trust,
      weight: heavy.has(one) ? records.weigh(one.row.row) : one.row.work,
    }),
  );
  const byId = new Map(set.map((one) => [one.id, one]));
  return rank(contenders).map(({ id, weight, since }): Candidate => {
    const candidate = withoutRow(byId.get(toHex(id))!);
    return hasConflict ? { ...candidate, weight, since } : candidate;
  });
}

function withoutRow({ row: _, ...candidate }: Found): Candidate {
  return candidate;
}

function requireBounded({ names = [], owners, from, to, limit = 1, oracles = [] }: RecordQuery): void {
  const refuse = (message: string): never => {
    throw new DstackError('RECORDS_QUERY', message);
  };
  if (names.length === 0 && owners === undefined && from === undefined && to === undefined) {
    refuse('a question names what it looks for: names, owners or a time');
  }
  if (names.length > MAX_SELECTORS) refuse(`a record has up to ${MAX_SELECTORS} names, not ${names.length}`);
  if (names.some(({ tags }) => tags.length > MOST_TAG_RANGES)) {
    refuse(`a name has up to ${MOST_TAG_RANGES} ranges; ask for fewer at a time`);
  }
  if ((owners?.length ?? 0) > MOST_OWNERS) refuse(`ask for up to ${MOST_OWNERS} owners at a time`);
  if (oracles.length > MOST_ORACLES) refuse(`ask up to ${MOST_ORACLES} oracles at a time`);
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST_RECORDS) {
    refuse(`the limit is 1 to ${MOST_RECORDS} records, not ${limit}`);
  }
}
