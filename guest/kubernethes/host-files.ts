/**
 * Files of the host volume. The host may change or replace them at any moment, so every byte is judged where it is used, and none
 * is read twice: a manifest or a secret's envelope is read whole, and an archive's bytes are hashed on their way to the container engine (archive.ts).
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, statfs } from 'node:fs/promises';
import type { ByteSource } from '../../lib/archives/tar.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** The beginning of its error codes: `MANIFEST` gives MANIFEST_MISSING, MANIFEST_NOT_REGULAR, MANIFEST_TOO_LARGE. */
type Kind = Small | 'ARCHIVE';
type Small = 'MANIFEST' | 'SECRET';

/** What a load leaves to all else, in bytes. */
const SPARE = 64 * 1024 * 1024;
/** How long the host may take for one read, in milliseconds. */
const STALLED_AFTER = 60_000;

/** A small file's bytes. @throws of its kind, as in MANIFEST_MISSING: …_MISSING, …_NOT_REGULAR, …_TOO_LARGE, …_UNREADABLE, …_STALLED */
export async function readHostFile(path: string, kind: Small, maxBytes: number): Promise<Uint8Array> {
  const { file } = await openInTime(path, kind, maxBytes);
  try {
    const buffer = Buffer.alloc(maxBytes + 1);
    let size = 0;
    while (size <= maxBytes) {
      const read = file.read(buffer, size, buffer.length - size, size).catch(unreadable(kind, path));
      const { bytesRead } = await notStalled(read, kind, path);
      if (bytesRead === 0) return new Uint8Array(buffer.subarray(0, size));
      size += bytesRead;
    }
    throw tooLarge(kind, path, maxBytes);
  } finally {
    await closeUnlessStalled(file, path);
  }
}

/** An archive of the host, open. */
export interface HostArchive extends ByteSource {
  /** Bytes, as the host said when it was opened; none beyond them are read. */
  size: number;
  close(): Promise<void>;
}

/**
 * Opens an archive of up to `maxBytes`. Its reads reject with ARCHIVE_UNREADABLE and ARCHIVE_STALLED.
 * @throws ARCHIVE_MISSING, ARCHIVE_NOT_REGULAR, ARCHIVE_TOO_LARGE, ARCHIVE_UNREADABLE, ARCHIVE_STALLED
 */
export async function openHostArchive(path: string, maxBytes: number): Promise<HostArchive> {
  const { file, size } = await openInTime(path, 'ARCHIVE', maxBytes);
  return {
    size,
    read(buffer, offset, length, position) {
      const within = Math.max(0, Math.min(length, size - position));
      const read = file.read(buffer, offset, within, position).catch(unreadable('ARCHIVE', path));
      return notStalled(read, 'ARCHIVE', path);
    },
    close: () => closeUnlessStalled(file, path),
  };
}

/** Of a file whose read has not ended, this does not end either: it is not waited for. */
async function closeUnlessStalled(file: FileHandle, path: string): Promise<void> {
  const closed = file.close();
  if (!stalled.has(path)) await closed;
  else closed.catch(() => {});
}

/** @throws of its kind: …_STALLED, while an earlier read of this file has not ended, too */
async function openInTime(
  path: string,
  kind: Kind,
  maxBytes: number,
): Promise<{ file: FileHandle; size: number }> {
  if (stalled.has(path)) throw stalledError(kind, path);
  return notStalled(openRegular(path, kind, maxBytes), kind, path);
}

/**
 * A read of the host's, if it comes in time. It cannot be called off: it goes on, and so holds one of the process's few threads for files;
 * so the file is not read again until it has ended.
 * @throws ARCHIVE_STALLED and the like
 */
export async function notStalled<T>(
  read: Promise<T>,
  kind: Kind,
  path: string,
  after = STALLED_AFTER,
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    stalled.add(path);
    const ended = () => stalled.delete(path);
    read.then(ended, ended);
    reject(stalledError(kind, path));
  }, after);
  try {
    return await Promise.race([read, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Files of which a read has not ended. */
const stalled = new Set<string>();

function stalledError(kind: Kind, path: string): DstackError {
  return new DstackError(
    `${kind}_STALLED`,
    `the host does not deliver ${path}: it has begun, and does not go on`,
  );
}

/**
 * How many bytes may be written to the engine's storage now: it is in memory, in a file system with a limit of its own.
 * @param meminfo path of /proc/meminfo
 * @param storage a folder of that file system
 * @param promised bytes of loads that are under way
 */
export async function loadBudget(meminfo: string, storage: string, promised = 0): Promise<number> {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile(meminfo, 'utf8'))?.[1];
  if (kib === undefined) return 0;
  const { bavail, bsize } = await statfs(storage);
  return Math.max(0, Math.min(Number(kib) * 1024, bavail * bsize) - SPARE - promised);
}

/** NOFOLLOW refuses a link, NONBLOCK keeps a FIFO from blocking, and fstat checks what was really opened. */
async function openRegular(
  path: string,
  kind: Kind,
  maxBytes: number,
): Promise<{ file: FileHandle; size: number }> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') {
      throw new DstackError(`${kind}_MISSING`, `the host volume has no ${path}; put it there`, { cause });
    }
    if (cause.code === 'ELOOP' || cause.code === 'ENXIO') throw notRegular(kind, path);
    throw new DstackError(`${kind}_UNREADABLE`, `${path} cannot be opened: ${cause.code ?? cause.message}`, {
      cause,
    });
  });
  const stat = await file.stat();
  const refusal = !stat.isFile()
    ? notRegular(kind, path)
    : stat.size > maxBytes
      ? tooLarge(kind, path, maxBytes)
      : undefined;
  if (refusal !== undefined) {
    await file.close();
    throw refusal;
  }
  return { file, size: stat.size };
}

function notRegular(kind: Kind, path: string): DstackError {
  return new DstackError(
    `${kind}_NOT_REGULAR`,
    `${path} is not a regular file; links and devices are not read`,
  );
}

function tooLarge(kind: Kind, path: string, maxBytes: number): DstackError {
  return new DstackError(
    `${kind}_TOO_LARGE`,
    `${path} is larger than the ${maxBytes} bytes for which there is room`,
  );
}

function unreadable(kind: Kind, path: string): (cause: unknown) => never {
  return (cause) => {
    throw new DstackError(`${kind}_UNREADABLE`, `${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  };
}
