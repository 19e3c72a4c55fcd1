/**
 * Which values a node throws away. The record stays, with the value's hash: whatever stands on it, its names, its weight and its place in every comparison
 * with peers are as before. Only the value of a datum can go: what membership and trust are judged by stays.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { toHex } from '../../lib/protocol/encoding.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { conflictKey } from '../../lib/protocol/records/conflicts.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import type { NameQuery, RecordIndex, Row } from './index.ts';
import type { RecordLog } from './log.ts';
import { hasName } from './query.ts';

/** Values that fit all that is said. */
export interface PruneChoice {
  /** Of records before this time, in milliseconds since 1970. */
  readonly before?: number;
  /** Of so many bytes at least. */
  readonly atLeast?: number;
  /** Under one of these names. */
  readonly names?: readonly NameQuery[];
  /** Of these keys, in lower-case hex. */
  readonly owners?: readonly string[];
  /**
   * Also the newest of its owner under its names. Absent: those alone that their owner has replaced, which no question is answered with any more.
   */
  readonly current?: boolean;
}

export interface Prunable {
  readonly discarded: number;
  /** Of these values. */
  readonly bytes: number;
}

/** What becomes of the values, by row. */
export const KEPT = 0;
export const DISCARDED_NOW = 1;
export const WANTED_AGAIN = 2;
/** Of row n at n; the rows begin with 1. */
export type Fates = Uint8Array;

/** Of what is left of a value: one that is no longer takes no more room. */
const HASH_BYTES = 32;

/** Records that are looked at before others have their turn. */
const AT_ONCE = 500;

interface Source {
  readonly index: RecordIndex;
  readonly log: Pick<RecordLog, 'read'>;
}

/** Nothing may be written meanwhile. It remembers some 100 bytes for each name and owner. */
export async function chooseDiscarded(
  source: Source,
  choice: PruneChoice,
): Promise<Prunable & { readonly fates: Fates }> {
  const newest = choice.current ? undefined : await newestOf(source);
  const fates = new Uint8Array(source.index.count + 1);
  let discarded = 0;
  let bytes = 0;
  await eachDatum(source, isPossible(choice), (row, record) => {
    const { value } = record;
    if (value.kind === 'pruned' || value.bytes.length <= HASH_BYTES || !isChosen(record, choice)) return;
    if (newest !== undefined && !isReplaced(row, record, newest)) return;
    fates[row.row] = DISCARDED_NOW;
    discarded += 1;
    bytes += value.bytes.length;
  });
  return { fates, discarded, bytes };
}

export function wantedAgain(index: RecordIndex): { readonly fates: Fates; readonly wanted: number } {
  const fates = new Uint8Array(index.count + 1);
  let wanted = 0;
  for (const { row, isDiscarded } of index.rows()) {
    if (!isDiscarded) continue;
    fates[row] = WANTED_AGAIN;
    wanted += 1;
  }
  return { fates, wanted };
}

/** Of a row, for each name and owner: no more than it takes. */
type Newest = Pick<Row, 'row' | 'timestamp'>;

/** Each owner's newest, as `rank` has it: of the same time the higher identity. */
async function newestOf(source: Source): Promise<ReadonlyMap<string, Newest>> {
  const newest = new Map<string, Newest>();
  const all = () => true;
  await eachDatum(source, all, (row, record) => {
    const key = seriesOf(row, record);
    const known = newest.get(key);
    if (known === undefined || isLater(row, known, source.index))
      newest.set(key, { row: row.row, timestamp: row.timestamp });
  });
  return newest;
}

function isReplaced(row: Row, record: DagRecord, newest: ReadonlyMap<string, Newest>): boolean {
  return record.selectors.length > 0 && newest.get(seriesOf(row, record))!.row !== row.row;
}

/** What one owner writes under the same names and ordinals. */
const seriesOf = ({ owner }: Row, record: DagRecord): string =>
  Buffer.from(owner.slice(0, 32) + toHex(conflictKey(record)).slice(0, 32), 'hex').toString('latin1');

const isLater = (a: Row, b: Newest, index: RecordIndex): boolean =>
  a.timestamp > b.timestamp || (a.timestamp === b.timestamp && a.id > index.rowAt(b.row).id);

/** What the index knows, before the record is read. */
const isPossible =
  ({ before, atLeast = 0, owners }: PruneChoice) =>
  (row: Row): boolean =>
    !row.isPruned &&
    (before === undefined || row.timestamp < before) &&
    row.place.length >= atLeast &&
    (owners === undefined || owners.includes(row.owner));

function isChosen(record: DagRecord, { atLeast = 0, names }: PruneChoice): boolean {
  const { value } = record;
  if (value.kind === 'pruned' || value.bytes.length < atLeast) return false;
  return names === undefined || names.some((name) => hasName(record, name));
}

async function eachDatum(
  { index, log }: Source,
  isWanted: (row: Row) => boolean,
  take: (row: Row, record: DagRecord) => void,
): Promise<void> {
  let left = AT_ONCE;
  for (const row of index.rows()) {
    left -= 1;
    if (left === 0) {
      await nextTurn();
      left = AT_ONCE;
    }
    if (!isWanted(row)) continue;
    const record = decodeRecord(log.read(row.place));
    if (record.type === 'datum') take(row, record);
  }
}
