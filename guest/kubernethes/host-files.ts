/**
 * Files of the host volume. The host may change or replace them at any moment, so a file is copied into the guest through one
 * open descriptor, and only the copy is used.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { DstackError } from '../../lib/protocol/errors.ts';

/** The beginning of its error codes: `MANIFEST` gives MANIFEST_MISSING, MANIFEST_NOT_REGULAR, MANIFEST_TOO_LARGE. */
type Kind = 'MANIFEST' | 'ARCHIVE';

const CHUNK = 1024 * 1024;

/** A small file's bytes. @throws MANIFEST_MISSING, MANIFEST_NOT_REGULAR, MANIFEST_TOO_LARGE, MANIFEST_UNREADABLE */
export async function readHostFile(path: string, maxBytes: number): Promise<Uint8Array> {
  const source = await openRegular(path, 'MANIFEST', maxBytes);
  try {
    const buffer = Buffer.alloc(maxBytes + 1);
    let size = 0;
    while (size <= maxBytes) {
      const { bytesRead } = await source.file
        .read(buffer, size, buffer.length - size, size)
        .catch(unreadable('MANIFEST', path));
      if (bytesRead === 0) return new Uint8Array(buffer.subarray(0, size));
      size += bytesRead;
    }
    throw tooLarge('MANIFEST', path, maxBytes);
  } finally {
    await source.file.close();
  }
}

/** A copy in the guest; `dispose` deletes it. */
export interface Copy {
  file: FileHandle;
  size: number;
  dispose(): Promise<void>;
}

/**
 * Copies a file of the host into `target` (on the guest's tmpfs), up to `maxBytes`.
 * @throws ARCHIVE_MISSING, ARCHIVE_NOT_REGULAR, ARCHIVE_TOO_LARGE, ARCHIVE_UNREADABLE
 */
export async function copyHostFile(path: string, target: string, maxBytes: number): Promise<Copy> {
  const source = await openRegular(path, 'ARCHIVE', maxBytes);
  await rm(target, { force: true });
  const file = await open(target, 'wx+', 0o600).catch(async (error: unknown) => {
    await source.file.close();
    throw error;
  });
  const dispose = async () => {
    await file.close();
    await rm(target, { force: true });
  };
  try {
    const buffer = Buffer.alloc(CHUNK);
    let size = 0;
    for (;;) {
      const { bytesRead } = await source.file.read(buffer, 0, CHUNK, size).catch(unreadable('ARCHIVE', path));
      if (bytesRead === 0) return { file, size, dispose };
      size += bytesRead;
      if (size > maxBytes) throw tooLarge('ARCHIVE', path, maxBytes);
      await file.writeFile(buffer.subarray(0, bytesRead));
    }
  } catch (error) {
    await dispose();
    throw error;
  } finally {
    await source.file.close();
  }
}

/**
 * How many bytes may be copied now: the copy and the unpacked image are both in memory.
 * @param meminfo path of /proc/meminfo
 */
export async function copyBudget(meminfo: string, limit: number): Promise<number> {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile(meminfo, 'utf8'))?.[1];
  if (kib === undefined) return 0;
  const spare = 64 * 1024 * 1024;
  return Math.max(0, Math.min(limit, Math.floor((Number(kib) * 1024 - spare) / 2)));
}

/** NOFOLLOW refuses a link, NONBLOCK keeps a FIFO from blocking, and fstat checks what was really opened. */
async function openRegular(path: string, kind: Kind, maxBytes: number): Promise<{ file: FileHandle }> {
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
  return { file };
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
