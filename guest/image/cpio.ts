/**
 * Writes, and reads, a cpio archive as the kernel's initramfs loader reads it ("newc"; Documentation/driver-api/early-userspace/
 * buffer-format.rst). Written here rather than with cpio(1), so that no inode number, owner or time of the build host
 * gets in.
 */
import { Buffer } from 'node:buffer';
import { alignUp } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

const TRAILER = 'TRAILER!!!';

/** One entry. `path` has no leading slash; folders come before what is in them. */
export type CpioEntry =
  | { readonly path: string; readonly kind: 'folder' }
  | { readonly path: string; readonly kind: 'link'; readonly target: string }
  | { readonly path: string; readonly kind: 'file'; readonly bytes: Buffer; readonly executable: boolean };

/** The archive's bytes; everything belongs to root and dates from 1970. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => {
    parts.push(...record(index + 1, entry.path, modeOf(entry), contentOf(entry)));
  });
  parts.push(...record(0, TRAILER, 0, Buffer.alloc(0)));
  return Buffer.concat(parts);
}

function record(inode: number, path: string, mode: number, content: Buffer): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const links = mode === 0 ? 1 : mode >>> 12 === 0o4 ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return [...padded(Buffer.concat([Buffer.from(header), name])), ...padded(content)];
}

function padded(bytes: Buffer): Buffer[] {
  return [bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)];
}

function modeOf(entry: CpioEntry): number {
  switch (entry.kind) {
    case 'folder':
      return 0o040755;
    case 'link':
      return 0o120777;
    case 'file':
      return entry.executable ? 0o100755 : 0o100644;
  }
}

function contentOf(entry: CpioEntry): Buffer {
  switch (entry.kind) {
    case 'folder':
      return Buffer.alloc(0);
    case 'link':
      return Buffer.from(entry.target);
    case 'file':
      return entry.bytes;
  }
}

/** A record as it stands in an archive. */
export interface CpioRecord {
  readonly path: string;
  readonly mode: number;
  readonly bytes: Buffer;
}

const HEADER_BYTES = 110;

/**
 * Reads an archive that `cpioArchive` could have written, and no other: its inverse. The kernel accepts more: further archives
 * whose files replace earlier ones, owners, hard links, a path twice. Whoever relies on what is shown here must not miss any
 * of that.
 * @throws DstackError CPIO_INVALID for one that is cut off, of another format, or holds more than is shown.
 */
export function readCpio(archive: Buffer): CpioRecord[] {
  const records = new Map<string, CpioRecord>();
  const aligned = (at: number) => alignUp(at, 4);
  let at = 0;
  for (;;) {
    if (archive.toString('latin1', at, at + 6) !== '070701' || at + HEADER_BYTES > archive.length) {
      throw new DstackError('CPIO_INVALID', `no record of a "newc" archive begins at byte ${at}`);
    }
    const field = (index: number) => {
      const text = archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8);
      return /^[0-9a-fA-F]{8}$/.test(text) ? Number.parseInt(text, 16) : Number.NaN;
    };
    const [mode, size, nameBytes] = [field(1), field(6), field(11)];
    const name = at + HEADER_BYTES;
    const content = aligned(name + nameBytes);
    const end = aligned(content + size);
    if (!(nameBytes > 0 && mode >= 0 && end <= archive.length)) {
      throw new DstackError('CPIO_INVALID', `the record at byte ${at} is truncated`);
    }
    const path = archive.toString('utf8', name, name + nameBytes - 1);
    const bytes = archive.subarray(content, content + size);
    const last = path === TRAILER;
    const written = Buffer.concat(record(last ? 0 : records.size + 1, path, mode, bytes));
    if (!written.equals(archive.subarray(at, end))) {
      throw new DstackError(
        'CPIO_INVALID',
        `the record of ${path} holds more than a name, a mode and contents`,
      );
    }
    if (last) {
      if (end === archive.length) return [...records.values()];
      throw new DstackError('CPIO_INVALID', `${archive.length - end} bytes follow the archive's end`);
    }
    if (records.has(path) || path.split('/').some((part) => ['', '.', '..'].includes(part))) {
      throw new DstackError('CPIO_INVALID', `the path ${path} occurs twice, or leads elsewhere`);
    }
    records.set(path, { path, mode, bytes });
    at = end;
  }
}
