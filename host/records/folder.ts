/** The folder of a node: its log, and the index that is made from it. One process has it at a time. */
import { existsSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { dropDrafts } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { takeFolder } from '../../lib/daemon/sole-holder.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { genesisOf } from '../../lib/protocol/records/genesis.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { verifyAlone } from '../../lib/protocol/records/membership.ts';
import { compactInPlaceOfIndex, compactLog, dropCompacted } from './compact.ts';
import type { Fates } from './discard.ts';
import { type Indexed, noIndex, RecordIndex } from './index.ts';
import { createLog, type OpenOptions, RecordLog } from './log.ts';
import { HEADER_BYTES, marksOf } from './log-format.ts';
import { type Entry, endOf } from './log-reader.ts';

export const LOG_FILE = 'records.log';
export const INDEX_FILE = 'index.sqlite';
/** Entries that are read into the index at a time. */
const REPLAYED_AT_ONCE = 1_000;
/** Who goes on with less is stopped again at once. */
const ROOM_BYTES = 4 << 20;

/** Log and index, which has all that the log has. */
export interface OpenFolder {
  readonly log: RecordLog;
  readonly index: RecordIndex;
  /**
   * Writes the log anew, with these values or without them; then `log` is another one. Nothing may be written meanwhile.
   * @param isAlone nobody asks anything meanwhile: where there is no room, that of the index is taken. Then `index` is another one too
   * @throws RECORDS_PRUNE_ROOM, or what else failed; then nothing has changed
   */
  compact(fates: Fates, isAlone: boolean): Promise<void>;
  /** Records of the log that were not in the index. */
  readonly replayed: number;
  /** Whether there is as much room as a few groups and what is found by them take. */
  hasRoom(): boolean;
  /**
   * After the disk was full: log and index as after a start.
   * @returns how many records were in the log and not in the index
   * @throws RECORDS_STOPPED, and what the index throws
   */
  goOn(): number;
  /** Lets others have the folder. */
  close(): Promise<void>;
}

/**
 * Makes the folder of a node of this network, with its genesis record. What is there is left as it is.
 * @param genesis the bytes of the genesis record
 * @throws RECORDS_EXISTS; RECORD_… for what is no good genesis record
 */
export function createRecords(folder: string, genesis: Uint8Array): void {
  const record = decodeRecord(genesis);
  const network = genesisOf(record);
  verifyAlone(record, network);
  makeFolder(folder, 0o700);
  dropDrafts(folder);
  createLog(join(folder, LOG_FILE), network.id, genesis);
}

/** @throws RECORDS_FOLDER, RECORDS_HELD, RECORDS_LOG_DAMAGED, RECORDS_LOG_FORM, RECORDS_INDEX */
export async function openFolder(
  folder: string,
  { fileOf }: Pick<OpenOptions, 'fileOf'> = {},
): Promise<OpenFolder> {
  const release = await holdRecords(folder);
  let index: RecordIndex | undefined;
  let log: RecordLog | undefined;
  const close = async () => {
    index?.close();
    await log?.close();
    release();
  };
  try {
    dropDrafts(folder);
    const path = join(folder, INDEX_FILE);
    index = RecordIndex.open(path);
    const known = index.covered;
    const logPath = join(folder, LOG_FILE);
    dropCompacted(logPath);
    log = await RecordLog.open(logPath, {
      ...(known && { known }),
      ...(fileOf && { fileOf }),
    });
    if (known !== undefined && known.salt !== toHex(log.header.salt)) {
      index.close();
      index = RecordIndex.make(path);
    }
    const catchUp = (whole: RecordLog, behind: RecordIndex): number => {
      const before = behind.count;
      replay(whole, behind);
      return behind.count - before;
    };
    let ownIndex = index;
    let ownLog = log;
    const replayed = catchUp(log, index);
    return {
      get log() {
        return ownLog;
      },
      get index() {
        return ownIndex;
      },
      compact: async (fates, isAlone) => {
        const source = { log: ownLog, index: ownIndex };
        const options = {
          ...(fileOf && { fileOf }),
          use: (next: RecordLog) => {
            log = next;
            ownLog = next;
          },
        };
        try {
          await compactLog(logPath, source, fates, options);
        } catch (error) {
          if (!isAlone || !hasCode(error, 'RECORDS_PRUNE_ROOM')) throw error;
          const makeIndex = () => {
            ownIndex = RecordIndex.make(path);
            index = ownIndex;
            replay(ownLog, ownIndex);
          };
          await compactInPlaceOfIndex(logPath, source, fates, { ...options, makeIndex });
        }
      },
      replayed,
      hasRoom: () => roomIn(folder) >= ROOM_BYTES,
      goOn: () => {
        ownLog.goOn();
        return catchUp(ownLog, ownIndex);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function roomIn(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

/** @returns what lets others have it. @throws RECORDS_FOLDER, RECORDS_HELD */
export async function holdRecords(folder: string): Promise<() => void> {
  if (!existsSync(join(folder, LOG_FILE))) {
    throw new DstackError('RECORDS_FOLDER', `there are no records in ${folder}; name another folder`);
  }
  const release = await takeFolder(folder, 'records');
  if (release !== undefined) return release;
  throw new DstackError('RECORDS_HELD', `another process has ${folder}; stop it first`);
}

/** What the log has and the index has not. */
function replay(log: RecordLog, index: RecordIndex): void {
  const salt = toHex(log.header.salt);
  let entries: Indexed[] = [];
  let end = index.covered?.end ?? HEADER_BYTES;
  const write = () => {
    try {
      index.insert(entries, { salt, end });
    } catch (cause) {
      if (cause instanceof DstackError) throw cause;
      throw noIndex(index.path, cause);
    }
  };
  for (const entry of log.entries(end)) {
    entries.push(indexedOf(entry));
    end = endOf(entry);
    if (entries.length < REPLAYED_AT_ONCE) continue;
    write();
    entries = [];
  }
  if (entries.length > 0) write();
}

function indexedOf({ at, length, flags, record: bytes }: Entry): Indexed {
  const record = decodeRecord(bytes);
  return {
    id: toHex(recordId(record)),
    record,
    place: { at, length },
    ...marksOf(flags),
  };
}
