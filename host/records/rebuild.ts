/**
 * A new log from what is sound in a damaged one. Every record is judged again, as if a peer sent it: what stands on a lost one is no member any more, until
 * another node gives both back.
 */
import { closeSync, constants, fstatSync, linkSync, openSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { type Genesis, genesisOf } from '../../lib/protocol/records/genesis.ts';
import { Intake } from '../../lib/protocol/records/intake.ts';
import { verifyAlone } from '../../lib/protocol/records/membership.ts';
import { holdRecords, INDEX_FILE, LOG_FILE } from './folder.ts';
import { RecordIndex } from './index.ts';
import { createLog, entryBytes, GROUP_BYTES, headerOf, RecordLog, syncFolder } from './log.ts';
import { EntryFormat, flagsOf, HEADER_BYTES, type LogHeader, marksOf } from './log-format.ts';
import { type Entry, endOf, LogReader } from './log-reader.ts';
import { type Pending, PendingMembers } from './pending.ts';

export interface Rebuilt {
  /** Members of the new log. */
  readonly records: number;
  /** Sound records that are no members without those that are lost. */
  readonly dropped: number;
  /** Bytes of the damaged log in which no record is. */
  readonly unreadable: number;
  /** Where the damaged log is now. */
  readonly damaged: string;
}

/** What waits for others is dropped. */
const NO_ROOM = { records: 0, bytes: 0 };

/**
 * @param genesis the bytes of the genesis record, where the log has lost them
 * @throws RECORDS_FOLDER, RECORDS_HELD, RECORDS_LOG_FORM for a log whose header is lost, RECORDS_GENESIS
 */
export async function rebuildRecords(folder: string, genesis?: Uint8Array): Promise<Rebuilt> {
  const release = await holdRecords(folder);
  const path = join(folder, LOG_FILE);
  const draft = `${path}.rebuilt`;
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  let index: RecordIndex | undefined;
  let log: RecordLog | undefined;
  try {
    const header = headerOf(fd, path);
    const reader = new LogReader(fd, fstatSync(fd).size, new EntryFormat(header.salt));
    const first = genesis ?? reader.nextEntry(HEADER_BYTES, false)?.record.slice() ?? new Uint8Array();
    const network = networkOf(first, header);
    // Of a rebuild that was killed.
    rmSync(draft, { force: true });
    createLog(draft, header.network, first);
    log = await RecordLog.open(draft);
    index = RecordIndex.make(join(folder, INDEX_FILE));
    const { dropped, unreadable } = await refill(reader, network, { log, index });
    const damaged = keep(path);
    renameSync(draft, path);
    syncFolder(folder);
    return { records: index.count, dropped, unreadable, damaged };
  } finally {
    closeSync(fd);
    index?.close();
    await log?.close();
    release();
  }
}

async function refill(
  reader: LogReader,
  genesis: Genesis,
  { log, index }: { log: RecordLog; index: RecordIndex },
): Promise<{ dropped: number; unreadable: number }> {
  let group: Pending[] = [];
  let bytes = 0;
  let marks = marksOf(0);
  const members = new PendingMembers(
    index,
    () => marks,
    (pending) => {
      group.push(pending);
      bytes += entryBytes(pending.bytes);
    },
  );
  const intake = new Intake(genesis, members, NO_ROOM);
  const salt = toHex(log.header.salt);
  const write = async () => {
    const places = await log.append(
      group.map((pending) => ({ record: pending.bytes, flags: flagsOf(pending) })),
    );
    index.insert(
      group.map((pending, i) => ({ ...pending, place: places[i]! })),
      { salt, end: log.end },
    );
    for (const pending of group) members.settle(pending);
    group = [];
    bytes = 0;
  };
  indexFirst(log, index);
  let dropped = 0;
  let unreadable = reader.size - HEADER_BYTES;
  for (const entry of soundEntries(reader)) {
    unreadable -= endOf(entry) - entry.at;
    marks = marksOf(entry.flags);
    if (!isTaken(intake, entry.record)) dropped += 1;
    if (bytes >= GROUP_BYTES) await write();
  }
  if (group.length > 0) await write();
  return { dropped, unreadable };
}

/** The entries that can be read, over all that can't. */
function* soundEntries(reader: LogReader): Generator<Entry> {
  for (let at = HEADER_BYTES; ; ) {
    const entry = reader.nextEntry(at, false);
    if (entry === undefined) return;
    yield entry;
    at = endOf(entry);
  }
}

/** Genesis, which the new log begins with. */
function indexFirst(log: RecordLog, index: RecordIndex): void {
  for (const { at, length, record: bytes } of log.entries()) {
    const record = decodeRecord(bytes);
    const id = toHex(genesisOf(record).id);
    const place = { at, length };
    index.insert([{ id, record, place, ...marksOf(0) }], {
      salt: toHex(log.header.salt),
      end: log.end,
    });
  }
}

function isTaken(intake: Intake, bytes: Uint8Array): boolean {
  try {
    intake.offer(bytes, '', Number.POSITIVE_INFINITY);
    return true;
  } catch (error) {
    if (error instanceof DstackError && error.code.startsWith('RECORD_')) return false;
    throw error;
  }
}

function networkOf(bytes: Uint8Array, header: LogHeader): Genesis {
  try {
    const record = decodeRecord(bytes);
    const genesis = genesisOf(record);
    verifyAlone(record, genesis);
    if (toHex(genesis.id) === toHex(header.network)) return genesis;
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
  }
  throw new DstackError(
    'RECORDS_GENESIS',
    `the log has lost its genesis record, and this is none of network ${toHex(header.network)}; give that one`,
  );
}

/** Gives the damaged log a second name, which is free. */
function keep(path: string): string {
  for (let n = 1; ; n += 1) {
    const name = `${path}.damaged-${n}`;
    try {
      linkSync(path, name);
      return name;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}
