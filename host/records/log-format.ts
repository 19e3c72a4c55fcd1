/**
 * The bytes of the log: a header, and one entry for each record behind it, in the order in which they became members.
 *
 *     header  "dstack-records-2" (16) ‖ network (32) ‖ salt (16, random) ‖ CRC (4) of all before
 *     entry   length of the record (4) ‖ flags (1) ‖ CRC (4) ‖ CRC of the record (4) ‖ record
 *
 * The first CRC of an entry is of the salt, of where the entry begins in the file (8), of its length and flags; the second goes on from it. So
 * nothing is an entry but where it was written: neither bytes of an older file, nor what somebody put into the value of a record to look like one.
 *
 * A log that ends in 1 has entries without the flag for values that were thrown away, and is read, and written on, as it is. A version that does not know a log's number, or
 * a flag of an entry that is sound, has to refuse it: what it can't read it would take for an unfinished end, and cut off.
 *
 * CRC-32C and not the CRC-32 that Node has: for records of the usual size it finds any five wrong bits, for the largest any three; the other finds three
 * and two. It is for disks that forget. That nobody forges a record, its signature is for.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import { MAX_RECORD_BYTES } from '../../lib/protocol/records/codec.ts';
import { crc32c } from './crc32c.ts';

const KIND = 'dstack-records-';
const MAGIC = Buffer.from(`${KIND}2`, 'ascii');
/** Of logs that are read. */
const MAGICS = [MAGIC, Buffer.from(`${KIND}1`, 'ascii')];
const SALT_BYTES = 16;
const NETWORK_BYTES = 32;
export const HEADER_BYTES = MAGIC.length + NETWORK_BYTES + SALT_BYTES + 4;
export const ENTRY_HEAD_BYTES = 13;

/** The first of a group: what is before it was on the disk before it was written. */
export const BEGINS_GROUP = 1;
const SYNCHRONISED = 2;
const DISCARDED = 4;
const ALL_FLAGS = BEGINS_GROUP | SYNCHRONISED | DISCARDED;

/** What is known of a record besides its bytes, as flags of its entry and back. */
export interface Marks {
  /** It came while this node had all that its peers had. */
  readonly synchronised: boolean;
  /** Its value was thrown away here, and is not wanted back. */
  readonly discarded: boolean;
}

export const flagsOf = ({ synchronised, discarded }: Marks): number =>
  (synchronised ? SYNCHRONISED : 0) | (discarded ? DISCARDED : 0);

export const marksOf = (flags: number): Marks => ({
  synchronised: (flags & SYNCHRONISED) !== 0,
  discarded: (flags & DISCARDED) !== 0,
});

export interface LogHeader {
  readonly network: Uint8Array;
  readonly salt: Uint8Array;
}

/** An entry's head, which is sound. */
export interface EntryHead {
  /** Where it begins in the file. */
  readonly at: number;
  readonly length: number;
  readonly flags: number;
}

export function encodeHeader({ network, salt }: LogHeader): Buffer {
  const head = Buffer.concat([MAGIC, network, salt]);
  return Buffer.concat([head, uint32(crc32c(head))]);
}

/** Undefined for what is no header. @throws RECORDS_LOG_VERSION for one of another version */
export function parseHeader(bytes: Buffer): LogHeader | undefined {
  const magic = bytes.subarray(0, MAGIC.length);
  if (bytes.length < HEADER_BYTES || !magic.toString('latin1').startsWith(KIND)) return undefined;
  const head = bytes.subarray(0, HEADER_BYTES - 4);
  if (crc32c(head) !== bytes.readUInt32BE(head.length)) return undefined;
  if (!MAGICS.some((known) => known.equals(magic))) throw ofOtherVersion();
  const salt = MAGIC.length + NETWORK_BYTES;
  return { network: head.subarray(MAGIC.length, salt), salt: head.subarray(salt) };
}

/** Writes and reads entries of one log. */
export class EntryFormat {
  readonly #seed: number;
  readonly #place = Buffer.alloc(8);

  constructor(salt: Uint8Array) {
    this.#seed = crc32c(salt);
  }

  encode(at: number, flags: number, record: Uint8Array): Buffer {
    const entry = Buffer.allocUnsafe(ENTRY_HEAD_BYTES + record.length);
    entry.writeUInt32BE(record.length, 0);
    entry[4] = flags;
    const sum = this.#sum(entry, at);
    entry.writeUInt32BE(sum, 5);
    entry.writeUInt32BE(crc32c(record, sum), 9);
    entry.set(record, ENTRY_HEAD_BYTES);
    return entry;
  }

  /** The head that these bytes begin with, if they are from this place of the file. */
  head(bytes: Buffer, at: number): EntryHead | undefined {
    if (bytes.length < ENTRY_HEAD_BYTES) return undefined;
    const length = bytes.readUInt32BE(0);
    const flags = bytes[4]!;
    if (length === 0 || length > MAX_RECORD_BYTES) return undefined;
    return this.#sum(bytes, at) === bytes.readUInt32BE(5) ? { at, length, flags } : undefined;
  }

  /**
   * The record in the bytes of a whole entry; undefined where they are not what was written.
   * @throws RECORDS_LOG_VERSION for a sound entry that says what is not known here
   */
  record(entry: Buffer, { at, length, flags }: EntryHead): Buffer | undefined {
    if (entry.length < ENTRY_HEAD_BYTES + length) return undefined;
    const record = entry.subarray(ENTRY_HEAD_BYTES, ENTRY_HEAD_BYTES + length);
    if (crc32c(record, this.#sum(entry, at)) !== entry.readUInt32BE(9)) return undefined;
    if ((flags & ~ALL_FLAGS) !== 0) throw ofOtherVersion();
    return record;
  }

  #sum(entry: Buffer, at: number): number {
    this.#place.writeBigUInt64BE(BigInt(at));
    return crc32c(entry.subarray(0, 5), crc32c(this.#place, this.#seed));
  }
}

function ofOtherVersion(): DstackError {
  return new DstackError(
    'RECORDS_LOG_VERSION',
    'this log of records is of a later version of dstack, and is left as it is; use that version, or another folder',
  );
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
