/**
 * A reader of tar archives in a file: ustar, with pax (POSIX.1-2001) and GNU long names.
 *
 * It is ours because the archive comes from the host: every header that makes a reader allocate is bounded, and entries
 * are returned as ranges of the file, so nothing of their content has to be in memory. The host may change the file meanwhile:
 * what is made of it is still such ranges, and whoever reads them judges what is there then.
 */
import { COMPRESSION_MAGIC_BYTES, compressionOf } from '../protocol/compression.ts';
import { alignUp } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';

/** What can be read at any position: a FileHandle, or an archive of the host. */
export interface ByteSource {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

export type EntryKind = 'file' | 'directory' | 'symlink' | 'other';

/** One entry: its content is `size` bytes of the file from `offset`. */
export interface TarEntry {
  name: string;
  kind: EntryKind;
  offset: number;
  size: number;
  /** The text of a symlink, which may be anything. */
  target?: string;
}

export const BLOCK = 512;
/** The largest extended header, in bytes, and the most entries: more than any real image has. */
const MAX_EXTENDED = 64 * 1024;
const MAX_ENTRIES = 20_000;

/** What an extended header says of the entry behind it. */
export interface Extended {
  name?: string;
  target?: string;
  size?: number;
}

/**
 * All entries in order.
 * @throws ARCHIVE_TRUNCATED when the file ends before the archive does, ARCHIVE_COMPRESSED for one that has to be decompressed
 *   first, ARCHIVE_SPARSE, ARCHIVE_MALFORMED for what is not a tar archive
 */
export async function readTar(file: ByteSource, length: number): Promise<TarEntry[]> {
  await assertUncompressed(file, length);
  const entries: TarEntry[] = [];
  let extended: Extended = {};
  let position = 0;
  for (;;) {
    const header = await readExactly(file, position, BLOCK, length);
    if (isZero(header)) return entries;
    assertChecksum(header, position);
    const size = extended.size ?? number(header, 124, 12);
    const offset = position + BLOCK;
    if (offset + size > length) throw truncated(length);
    position = offset + alignUp(size, BLOCK);
    const type = typeOf(header);
    if (type === 'x' || type === 'L' || type === 'K') {
      extended = { ...extended, ...(await readExtended(file, type, offset, size, length)) };
      continue;
    }
    // Global pax headers change nothing that is used here.
    if (type === 'g') continue;
    const kind = kindOf(type);
    const target = kind === 'symlink' ? (extended.target ?? cString(header.subarray(157, 257))) : undefined;
    entries.push({
      name: extended.name ?? shortName(header),
      kind,
      offset,
      size,
      ...(target !== undefined && { target }),
    });
    if (entries.length > MAX_ENTRIES) throw malformed(`it has more than ${MAX_ENTRIES} entries`);
    extended = {};
  }
}

/** `count` bytes at `position`. @throws ARCHIVE_TRUNCATED */
export async function readExactly(
  file: ByteSource,
  position: number,
  count: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.alloc(count);
  let done = 0;
  while (done < count) {
    const { bytesRead } = await file.read(buffer, done, count - done, position + done);
    if (bytesRead === 0) throw truncated(length);
    done += bytesRead;
  }
  return buffer;
}

/** A compressed archive is not decompressed here: its maker decides how large it becomes, and this memory is the guest's. */
async function assertUncompressed(file: ByteSource, length: number): Promise<void> {
  const found = compressionOf(await readExactly(file, 0, Math.min(COMPRESSION_MAGIC_BYTES, length), length));
  if (found === undefined) return;
  throw new DstackError(
    'ARCHIVE_COMPRESSED',
    `the archive is compressed with ${found.name}: decompress it (${found.decompress}), and put the tar file in its place`,
  );
}

async function readExtended(
  file: ByteSource,
  type: 'x' | 'L' | 'K',
  offset: number,
  size: number,
  length: number,
): Promise<Extended> {
  if (size > MAX_EXTENDED) throw malformed(`an extended header has ${size} bytes`);
  const body = await readExactly(file, offset, size, length);
  if (type === 'x') return parsePax(body);
  return type === 'L' ? { name: cString(body) } : { target: cString(body) };
}

/** Pax records: `<length> <key>=<value>\n`, the length counting itself. @throws ARCHIVE_SPARSE, ARCHIVE_MALFORMED */
export function parsePax(body: Buffer): Extended {
  const found: Extended = {};
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(0x20, at);
    const digits = space === -1 ? '' : body.toString('latin1', at, space);
    const recordLength = /^[1-9]\d{0,5}$/.test(digits) ? Number(digits) : 0;
    const end = at + recordLength;
    const equals = body.indexOf(0x3d, space);
    if (recordLength === 0 || end > body.length || equals === -1 || equals >= end || body[end - 1] !== 0x0a) {
      throw malformed('a pax record is broken');
    }
    const key = body.toString('utf8', space + 1, equals);
    if (key.startsWith('GNU.sparse.')) throw sparse();
    const value = body.toString('utf8', equals + 1, end - 1);
    if (key === 'path') found.name = value;
    if (key === 'linkpath') found.target = value;
    if (key === 'size') {
      if (!/^\d{1,15}$/.test(value)) throw malformed('a pax size is not a number');
      found.size = Number(value);
    }
    at = end;
  }
  return found;
}

/** The entry's type: one character. @throws ARCHIVE_SPARSE */
export function typeOf(header: Buffer): string {
  const type = String.fromCharCode(header[156]!);
  if (type === 'S') throw sparse();
  return type;
}

function kindOf(type: string): EntryKind {
  if (type === '0' || type === '\0' || type === '7') return 'file';
  if (type === '5') return 'directory';
  return type === '2' ? 'symlink' : 'other';
}

export function shortName(header: Buffer): string {
  const name = cString(header.subarray(0, 100));
  const isUstar = header.toString('latin1', 257, 262) === 'ustar' && header[263] === 0x30;
  const prefix = isUstar ? cString(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** An octal number, or GNU's base-256 form (top bit set). */
export function number(header: Buffer, at: number, width: number): number {
  const field = header.subarray(at, at + width);
  if ((field[0]! & 0x80) !== 0) {
    const value = BigInt(`0x${field.toString('hex')}`) & ((1n << BigInt(width * 8 - 1)) - 1n);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('an entry has an impossible size');
    return Number(value);
  }
  const text = cString(field).trim();
  if (!/^[0-7]*$/.test(text)) throw malformed("a header's number is not octal");
  return text === '' ? 0 : Number.parseInt(text, 8);
}

/** The sum of the header's bytes with the checksum field read as spaces. */
export function assertChecksum(header: Buffer, position: number): void {
  let sum = 8 * 0x20;
  for (const [index, byte] of header.entries()) if (index < 148 || index >= 156) sum += byte;
  if (sum !== number(header, 148, 8)) throw malformed(`no tar header at byte ${position}`);
}

export function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end);
}

export const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

export function malformed(why: string): DstackError {
  return new DstackError('ARCHIVE_MALFORMED', `the archive is not a usable tar file: ${why}`);
}

/** A few bytes that say of themselves that they are many: whoever unpacks them writes all of these. */
function sparse(): DstackError {
  return new DstackError(
    'ARCHIVE_SPARSE',
    'the archive has a sparse file, which is as large unpacked as it likes: pack it without (tar without --sparse)',
  );
}

function truncated(length: number): DstackError {
  return new DstackError(
    'ARCHIVE_TRUNCATED',
    `the archive ends too early, after ${length} bytes; copy it again`,
  );
}
