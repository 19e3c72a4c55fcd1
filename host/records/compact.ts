/**
 * The log anew: one entry for each record, in the order in which they became members, without the values that are thrown away, and without the older
 * entries of records whose value came later.
 *
 * It is written beside the old one, synced, read back, and then renamed to it (rename(2)): a node that is killed has the one or the other, whole. The index
 * is changed in one transaction around the rename; where that is lost, it is of another log, and the next start makes it anew.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import { withoutValue } from '../../lib/protocol/records/identity.ts';
import { DISCARDED_NOW, type Fates, WANTED_AGAIN } from './discard.ts';
import { dropIndex, type Moved, type RecordIndex, type Row } from './index.ts';
import { diskFile, GROUP_BYTES, isFull, type OpenOptions, RecordLog, syncFolder } from './log.ts';
import {
  BEGINS_GROUP,
  ENTRY_HEAD_BYTES,
  EntryFormat,
  encodeHeader,
  flagsOf,
  HEADER_BYTES,
  marksOf,
} from './log-format.ts';

interface Source {
  readonly log: RecordLog;
  readonly index: RecordIndex;
}

/** What of a row the new log is written by. */
type Kept = Pick<Row, 'row' | 'place' | 'isDiscarded' | 'isCollider'>;

interface CompactOptions extends Pick<OpenOptions, 'fileOf'> {
  /** Called with the new log before anybody else has a turn: from here on the index has its places. */
  readonly use: (next: RecordLog) => void;
}

const draftOf = (path: string): string => `${path}.compacted`;
const formerOf = (path: string): string => `${path}.former`;

/** What a node that was killed has left. */
export function dropCompacted(path: string): void {
  for (const left of [draftOf(path), formerOf(path)]) rmSync(left, { force: true });
}

/** Bytes of a log that has nothing twice. */
export const compactedSize = (index: RecordIndex): number =>
  HEADER_BYTES + index.count * ENTRY_HEAD_BYTES + index.recordBytes;

/**
 * Nothing may be written meanwhile. The old log is closed.
 * @throws RECORDS_PRUNE_ROOM, or what else failed: then log and index are as they were
 */
export async function compactLog(
  path: string,
  source: Source,
  fates: Fates,
  { fileOf = diskFile, use }: CompactOptions,
): Promise<void> {
  const draft = draftOf(path);
  dropCompacted(path);
  let next: RecordLog | undefined;
  try {
    await writeAnew(draft, source.log, source.index.rows(), { fates, fileOf });
    // As the disk gives it.
    next = await RecordLog.open(draft, { fileOf });
    exchange(path, source.index, next);
    use(next);
  } catch (cause) {
    await next?.close();
    dropCompacted(path);
    throw isFull(cause) ? noRoom(cause) : cause;
  }
  await source.log.close();
}

/**
 * The same where the disk is full, for a node that nobody asks meanwhile: the index, which is made from the log, is thrown away first, and the new log takes its room.
 * @param makeIndex makes it again, from the new log or, where that failed, from the old one
 * @throws RECORDS_PRUNE_ROOM where that room is not enough: then the log is as it was. RECORDS_INDEX where there is none for the index: the next start
 *   makes it
 */
export async function compactInPlaceOfIndex(
  path: string,
  { log, index }: Source,
  fates: Fates,
  { fileOf = diskFile, use, makeIndex }: CompactOptions & { readonly makeIndex: () => void },
): Promise<void> {
  const draft = draftOf(path);
  const kept = Array.from(
    index.rows(),
    ({ row, place, isDiscarded, isCollider }): Kept => ({ row, place, isDiscarded, isCollider }),
  );
  index.close();
  dropIndex(index.path);
  let next: RecordLog | undefined;
  try {
    await writeAnew(draft, log, kept, { fates, fileOf });
    next = await RecordLog.open(draft, { fileOf });
    renameSync(draft, path);
    syncFolder(dirname(path));
    use(next);
  } catch (cause) {
    await next?.close();
    dropCompacted(path);
    makeIndex();
    throw isFull(cause) ? noRoom(cause) : cause;
  }
  // Before the index is made: what it takes is the room of the old log.
  await log.close();
  makeIndex();
}

function noRoom(cause: unknown): DstackError {
  return new DstackError(
    'RECORDS_PRUNE_ROOM',
    'there is no room to write beside the log what is kept of it, and nothing was changed: make room, have more thrown away, or stop the node and run `records prune`, which has the room of the index too',
    { cause },
  );
}

async function writeAnew(
  draft: string,
  log: RecordLog,
  rows: Iterable<Kept>,
  { fates, fileOf }: { readonly fates: Fates; readonly fileOf: NonNullable<OpenOptions['fileOf']> },
): Promise<void> {
  const salt = new Uint8Array(randomBytes(16));
  const format = new EntryFormat(salt);
  const handle = await open(draft, 'wx', 0o600);
  try {
    const file = fileOf(handle);
    let parts: Uint8Array[] = [encodeHeader({ network: log.header.network, salt })];
    let begin = 0;
    let at = HEADER_BYTES;
    let group = 0;
    const write = async () => {
      await file.write(Buffer.concat(parts), begin);
      begin = at;
      parts = [];
      group = 0;
    };
    for (const row of rows) {
      const { record, flags } = entryOf(row, log, fates[row.row]);
      const part = format.encode(at, group === 0 ? flags | BEGINS_GROUP : flags, record);
      parts.push(part);
      at += part.length;
      group += part.length;
      if (group >= GROUP_BYTES) await write();
    }
    await write();
    await file.sync();
  } finally {
    await handle.close();
  }
}

function entryOf(row: Kept, log: RecordLog, fate: number | undefined): { record: Uint8Array; flags: number } {
  const record = log.read(row.place);
  const discarded = fate === DISCARDED_NOW || (row.isDiscarded && fate !== WANTED_AGAIN);
  // Of the others it makes no difference whether this node had all when they came.
  const flags = flagsOf({ synchronised: row.isCollider, discarded });
  if (fate !== DISCARDED_NOW) return { record, flags };
  return { record: encodeRecord(withoutValue(decodeRecord(record))), flags };
}

/** The new log in the place of the old one, and the index of that. */
function exchange(path: string, index: RecordIndex, next: RecordLog): void {
  const former = formerOf(path);
  linkSync(path, former);
  let isExchanged = false;
  try {
    index.relocate(movedIn(next), { salt: toHex(next.header.salt), end: next.end }, () => {
      isExchanged = true;
      renameSync(draftOf(path), path);
      syncFolder(dirname(path));
    });
  } catch (error) {
    // The index has no room for the change: without it, the old log is the one that is used.
    if (isExchanged) {
      renameSync(former, path);
      // Else the new log could be there after a power cut, and what is appended from now on is in the old one.
      syncFolder(dirname(path));
    }
    throw error;
  }
  // From here on it is done: what fails now, the next start puts in order.
  try {
    rmSync(former);
  } catch {}
}

/** As it stands in a record's first byte: see codec.ts. */
const PRUNED = 0x11;

function* movedIn(log: RecordLog): Generator<Moved> {
  for (const { at, length, flags, record } of log.entries()) {
    yield { place: { at, length }, isPruned: record[0] === PRUNED, isDiscarded: marksOf(flags).discarded };
  }
}
