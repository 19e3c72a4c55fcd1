/** Takes what the host tells the VM at boot: once, bounded, and only from regular files. */
import { constants } from 'node:fs';
import { chmod, type FileHandle, lstat, mkdir, open, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { CONFIG_MAX_BYTES } from '../../lib/protocol/network-config.ts';

/** The host's file or, when it is optional and not there, `{}`; frozen at `target`. */
export interface BootFile {
  readonly source: string;
  readonly target: string;
  readonly optional: boolean;
}

/**
 * The bytes of `target`: those that `source` had when the first attestor of this boot read it. The host can change its file at
 * any time, even while it is being read; only the copy counts, and everything that follows uses the copy.
 * @throws BOOT_FILE_MISSING, BOOT_FILE_INVALID
 */
export async function takeBootFile(file: BootFile): Promise<Uint8Array> {
  const frozen = await readFrozen(file.target);
  if (frozen !== null) return frozen;
  const bytes = await readFromHost(file);
  await freeze(file.target, bytes);
  return bytes;
}

async function readFrozen(target: string): Promise<Uint8Array | null> {
  try {
    const stat = await lstat(target);
    if (!stat.isFile()) throw new DstackError('BOOT_FILE_INVALID', `${target} is not a regular file`);
    return new Uint8Array(await readFile(target));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

async function readFromHost({ source, optional }: BootFile): Promise<Uint8Array> {
  let handle: FileHandle;
  try {
    // No symbolic link; and a FIFO or a device must not block the start.
    handle = await open(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) {
      if (optional) return new TextEncoder().encode('{}');
      throw new DstackError('BOOT_FILE_MISSING', `the host volume has no ${source}`, { cause });
    }
    throw new DstackError('BOOT_FILE_INVALID', `${source} cannot be opened as a regular file`, { cause });
  }
  try {
    if (!(await handle.stat()).isFile()) {
      throw new DstackError('BOOT_FILE_INVALID', `${source} is not a regular file`);
    }
    return await readBounded(handle, source);
  } finally {
    await handle.close();
  }
}

/** Counts the bytes read and does not ask for the file's size: the host can answer that as it likes. */
async function readBounded(handle: FileHandle, source: string): Promise<Uint8Array> {
  const buffer = new Uint8Array(CONFIG_MAX_BYTES + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) return buffer.slice(0, length);
    length += bytesRead;
  }
  throw new DstackError('BOOT_FILE_INVALID', `${source} is larger than ${CONFIG_MAX_BYTES} bytes`);
}

/** Atomic: a daemon that dies here leaves no partial file for the next one to trust. The folder is in memory: no fsync. */
async function freeze(target: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  const draft = `${target}.draft`;
  await writeFile(draft, bytes, { mode: 0o644 });
  await chmod(draft, 0o644);
  await rename(draft, target);
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
