/**
 * The records of a node in one file that only grows: what is acknowledged is here, and all else is made from it.
 *
 * Entries are written in groups: one write, one sync (fdatasync(2)), and only then the next. So at most the last group is unfinished, whatever died,
 * and what begins a group proves that all before it was on the disk. At the start a tail that is no whole entry is cut off if it can be of an
 * unfinished group. What lies before the beginning of another group, is longer than a group, or was in the index, had been
 * acknowledged: then the file is refused, and nothing of it is changed.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { MAX_RECORD_BYTES } from '../../lib/protocol/records/codec.ts';
import {
  BEGINS_GROUP,
  ENTRY_HEAD_BYTES,
  EntryFormat,
  encodeHeader,
  HEADER_BYTES,
  type LogHeader,
  parseHeader,
} from './log-format.ts';
import { type Entry, endOf, LogReader } from './log-reader.ts';

/** A group takes no more records once it has so many bytes, as `entryBytes` counts them. */
export const GROUP_BYTES = 1 << 20;
const MAX_GROUP_BYTES = GROUP_BYTES + ENTRY_HEAD_BYTES + MAX_RECORD_BYTES;

/** What a record takes in the log: with its head, since of the smallest records a group has thousands. */
export const entryBytes = (record: Uint8Array): number => ENTRY_HEAD_BYTES + record.length;

/** Where a record is. */
export interface Place {
  readonly at: number;
  /** Of the record, in bytes. */
  readonly length: number;
}

export interface NewEntry {
  readonly flags: number;
  readonly record: Uint8Array;
}

/** What a log is written by; a test has one that fails. */
export interface LogFile {
  write(bytes: Uint8Array, at: number): Promise<void>;
  /** Returns when all that was written is on the disk. */
  sync(): Promise<void>;
}

export interface OpenOptions {
  /** So far the index has it: what is before this was on the disk. Of the log with this salt. */
  readonly known?: { readonly salt: string; readonly end: number };
  readonly fileOf?: (handle: FileHandle) => LogFile;
}

/**
 * A log with its genesis record as the first entry, which is there whole or not at all; never in the place of another file.
 * @throws RECORDS_EXISTS
 */
export function createLog(path: string, network: Uint8Array, genesis: Uint8Array): void {
  const salt = new Uint8Array(randomBytes(16));
  const entry = new EntryFormat(salt).encode(HEADER_BYTES, BEGINS_GROUP, genesis);
  const draft = `${path}.${process.pid}.draft`;
  writeDurably(draft, Buffer.concat([encodeHeader({ network, salt }), entry]), 0o600);
  try {
    linkSync(draft, path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new DstackError('RECORDS_EXISTS', `${path} is there already; use it, or another folder`, { cause });
  } finally {
    rmSync(draft);
  }
  syncFolder(dirname(path));
}

export class RecordLog {
  readonly header: LogHeader;
  /** Bytes of an unfinished group that were cut off when it was opened. */
  readonly cut: number;
  readonly #handle: FileHandle;
  readonly #file: LogFile;
  readonly #format: EntryFormat;
  #end: number;
  /** Where the last group begins. */
  #group: number;
  #failure: DstackError | undefined;

  private constructor(
    handle: FileHandle,
    file: LogFile,
    header: LogHeader,
    place: { end: number; group: number; cut: number },
  ) {
    this.#handle = handle;
    this.#file = file;
    this.header = header;
    this.#format = new EntryFormat(header.salt);
    this.#end = place.end;
    this.#group = place.group;
    this.cut = place.cut;
  }

  /**
   * Reads the whole file once, and cuts an unfinished group off.
   * @throws RECORDS_LOG_DAMAGED, RECORDS_LOG_VERSION, RECORDS_LOG_FORM for a file that is no log, and the file system's own errors
   */
  static async open(path: string, { known, fileOf = diskFile }: OpenOptions = {}): Promise<RecordLog> {
    // Through no link to another's file.
    const handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      const { size } = await handle.stat();
      const header = headerOf(handle.fd, path);
      const reader = new LogReader(handle.fd, size, new EntryFormat(header.salt));
      const trusted = known?.salt === toHex(header.salt) ? known.end : HEADER_BYTES;
      const { end, group } = soundPart(reader, trusted, path);
      if (end < size) ftruncateSync(handle.fd, end);
      settle(handle.fd, group, end);
      return new RecordLog(handle, fileOf(handle), header, { end, group, cut: size - end });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Where the next entry begins. All before is on the disk. */
  get end(): number {
    return this.#end;
  }

  /** All entries from this place on, which must be one where an entry begins. */
  entries(from = HEADER_BYTES): Generator<Entry> {
    return new LogReader(this.#handle.fd, this.#end, this.#format).entries(from);
  }

  /** A copy of one record. @throws RECORDS_LOG_DAMAGED when it is not what was written */
  read({ at, length }: Place): Uint8Array {
    const bytes = readAt(this.#handle.fd, at, ENTRY_HEAD_BYTES + length);
    const head = this.#format.head(bytes, at);
    const record = head?.length === length ? this.#format.record(bytes, head) : undefined;
    if (record === undefined) throw damaged(`the record at byte ${at} is not what was written`);
    return new Uint8Array(record);
  }

  /**
   * Writes a group; when this returns, it is on the disk. One at a time. After a failure nothing is written any more: what a failed sync
   * has left in memory looks as if it were on the disk (fsync(2)), and only a start or `goOn` writes it again.
   * @throws RECORDS_STOPPED
   */
  async append(group: readonly NewEntry[]): Promise<Place[]> {
    if (this.#failure !== undefined) throw this.#failure;
    const places: Place[] = [];
    let at = this.#end;
    const parts = group.map(({ flags, record }, i) => {
      const part = this.#format.encode(at, i === 0 ? flags | BEGINS_GROUP : flags, record);
      places.push({ at, length: record.length });
      at += part.length;
      return part;
    });
    try {
      await this.#file.write(Buffer.concat(parts), this.#end);
      await this.#file.sync();
    } catch (cause) {
      this.#failure = stoppedBy(cause);
      throw this.#failure;
    }
    this.#group = this.#end;
    this.#end = at;
    return places;
  }

  /**
   * After a disk was full: what a start does to the end of the file. What was not acknowledged is cut off, and the last group is written once more.
   * @throws RECORDS_STOPPED
   */
  goOn(): void {
    try {
      ftruncateSync(this.#handle.fd, this.#end);
      settle(this.#handle.fd, this.#group, this.#end);
      this.#failure = undefined;
    } catch (cause) {
      this.#failure = stoppedBy(cause);
      throw this.#failure;
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** The place up to which the file is sound, and where its last group begins. @throws RECORDS_LOG_DAMAGED */
function soundPart(reader: LogReader, trusted: number, path: string): { end: number; group: number } {
  let end = HEADER_BYTES;
  let group = HEADER_BYTES;
  for (const entry of reader.entries(HEADER_BYTES)) {
    if ((entry.flags & BEGINS_GROUP) !== 0) group = entry.at;
    end = endOf(entry);
  }
  const lost = (why: string) => damaged(`${path} is damaged at byte ${end}, ${why}`);
  if (end < trusted) throw lost(`before byte ${trusted} up to which it was on the disk`);
  if (reader.size - end > MAX_GROUP_BYTES) throw lost('and goes on for longer than what is written at once');
  if (reader.size > end && reader.nextEntry(end + 1, true) !== undefined) {
    throw lost('before records that were written later');
  }
  return { end, group };
}

/**
 * Writes the last group once more as it is. It may be only in memory, of a process that was killed before its sync or whose sync failed; and after a
 * failed sync the system takes it for written.
 */
function settle(fd: number, group: number, end: number): void {
  const bytes = readAt(fd, group, end - group);
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, group + done);
  fdatasyncSync(fd);
}

/** @throws RECORDS_LOG_FORM, RECORDS_LOG_VERSION */
export function headerOf(fd: number, path: string): LogHeader {
  const header = parseHeader(readAt(fd, 0, HEADER_BYTES));
  if (header !== undefined) return { network: header.network.slice(), salt: header.salt.slice() };
  throw new DstackError(
    'RECORDS_LOG_FORM',
    `${path} does not begin as a log of records; name another folder`,
  );
}

/** As many of these bytes as there are. */
function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, bytes, done, length - done, at + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}

export const diskFile = (handle: FileHandle): LogFile => ({
  async write(bytes, at) {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done);
      done += bytesWritten;
    }
  },
  sync: () => handle.datasync(),
});

/** What was made or renamed in it is so on the disk. */
export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function damaged(why: string): DstackError {
  return new DstackError(
    'RECORDS_LOG_DAMAGED',
    `${why}; \`records rebuild\` keeps what is sound, and other nodes have the rest`,
  );
}

/** What intake ends with. */
export function stoppedBy(cause: unknown): DstackError {
  const { message } = cause as Error;
  return new DstackError(
    'RECORDS_STOPPED',
    `no more records are taken: ${message}; ${isFull(cause) ? 'make room, and the node goes on by itself' : 'check the disk, then start the node again'}`,
    { cause },
  );
}

/** Whether a node can go on once there is room. */
export function isForRoom({ cause }: DstackError): boolean {
  return isFull(cause);
}

/** SQLITE_FULL, as SQLite says it. */
const NO_ROOM_IN_DATABASE = 13;

export function isFull(error: unknown): boolean {
  const { code, errcode } = (error ?? {}) as { code?: string; errcode?: number };
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code ?? '') || errcode === NO_ROOM_IN_DATABASE;
}
