/**
 * The files through which Linux shows a TD its hardware, as the attestor uses them: configfs and sysfs on TDX; on the simulated
 * platform the same files, mounted elsewhere. Nothing else in this folder knows where they are.
 */
import { constants } from 'node:fs';
import { mkdir, open, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';

/** Paths start with /sys. A call that the kernel refuses rejects with an error whose `code` is the errno's name, as in Node. */
export interface PlatformFiles {
  makeFolder(path: string): Promise<void>;
  removeFolder(path: string): Promise<void>;
  /** All bytes of a file, at most `maxBytes`. @throws PLATFORM_FILE when there are more */
  read(path: string, maxBytes: number): Promise<Uint8Array>;
  /** Opens the file, writes all bytes with one write(2) at offset 0, and closes it. @throws PLATFORM_FILE for a short write */
  write(path: string, bytes: Uint8Array): Promise<void>;
}

/**
 * Where an image of this flavour has the files. The flavour is measured, so the host cannot make a production image take
 * simulated quotes; nor would anybody accept them.
 */
export function platformRoot(flavour: Flavour): string {
  return flavour === 'production' ? '/' : '/run/dstack-hardware';
}

/** The files as the kernel has them, below `root`. */
export function kernelFiles(root: string): PlatformFiles {
  const at = (path: string) => join(root, path);
  return {
    async makeFolder(path) {
      await mkdir(at(path), 0o700);
    },
    async removeFolder(path) {
      await rmdir(at(path));
    },
    async read(path, maxBytes) {
      const handle = await open(at(path), constants.O_RDONLY);
      try {
        const buffer = new Uint8Array(maxBytes + 1);
        let length = 0;
        // Read until read(2) returns 0: the size that stat(2) gives for such a file means nothing.
        for (;;) {
          const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
          if (bytesRead === 0) return buffer.slice(0, length);
          length += bytesRead;
          if (length > maxBytes) throw tooLong(path, maxBytes);
        }
      } finally {
        await handle.close();
      }
    },
    async write(path, bytes) {
      const handle = await open(at(path), constants.O_WRONLY);
      try {
        const { bytesWritten } = await handle.write(bytes, 0, bytes.length, null);
        if (bytesWritten !== bytes.length) {
          throw new DstackError('PLATFORM_FILE', `${path} took ${bytesWritten} of ${bytes.length} bytes`);
        }
      } finally {
        await handle.close();
      }
    },
  };
}

/** What `PlatformFiles.read` throws for a file that is too long. */
export function tooLong(path: string, maxBytes: number): DstackError {
  return new DstackError('PLATFORM_FILE', `${path} has more than ${maxBytes} bytes`);
}

/**
 * The same files, but no call takes longer than `within` milliseconds: after that it fails with PLATFORM_SILENT, and so does
 * every further call until the first one returns after all. A thread that waits in the kernel cannot be interrupted, and there
 * are few threads.
 */
export function bounded(files: PlatformFiles, within: number): PlatformFiles {
  let stuck = 0;

  async function limit<T>(path: string, call: () => Promise<T>): Promise<T> {
    if (stuck > 0) throw silent(path, 'an earlier call has not returned yet');
    const { promise: late, reject } = Promise.withResolvers<never>();
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      stuck++;
      reject(silent(path, `nothing for ${within / 1000} seconds`));
    }, within);
    const done = call().finally(() => {
      clearTimeout(timer);
      if (isLate) stuck--;
    });
    // The loser of the race may fail as well, when nobody waits for it any more.
    done.catch(() => {});
    return await Promise.race([done, late]);
  }

  return {
    makeFolder: (path) => limit(path, () => files.makeFolder(path)),
    removeFolder: (path) => limit(path, () => files.removeFolder(path)),
    read: (path, maxBytes) => limit(path, () => files.read(path, maxBytes)),
    write: (path, bytes) => limit(path, () => files.write(path, bytes)),
  };
}

function silent(path: string, why: string): DstackError {
  return new DstackError('PLATFORM_SILENT', `the platform does not answer at ${path}: ${why}`);
}

/** The name of the errno with which a call was refused, or undefined for any other error. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof DstackError || !(error instanceof Error)) return undefined;
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
