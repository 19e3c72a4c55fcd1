/**
 * The files that the ledger is kept in, as the few things that it does with them. Nothing here blocks the event loop: answers to clients go
 * out while the disk is written (SQLite, in the same process, held it up for 99 ms where this took 8).
 */
import { constants, type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { DstackError } from '../../../lib/protocol/errors.ts';

/** A failure of one is final, for what a failed fsync left behind is unknown (fsync(2)), but for a write that finds no room. */
export interface Disk {
  /** In bytes; a file that was never written to has none. */
  size(file: string): Promise<number>;
  /** Exactly these bytes. @throws LEDGER_SHORT when the file ends before them */
  read(file: string, at: number, length: number): Promise<Uint8Array>;
  write(file: string, at: number, bytes: Uint8Array): Promise<void>;
  /** Drops what is behind this length. */
  cut(file: string, length: number): Promise<void>;
  /** Returns when all that was written to the file survives a loss of power. */
  sync(file: string): Promise<void>;
  close(): Promise<void>;
}

/** Files of a folder, which is made if it is not there. The names are all opened now, so that no later step makes one. */
export async function openDisk(folder: string, names: readonly string[]): Promise<Disk> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const files = new Map<string, FileHandle>();
  for (const name of names) {
    files.set(name, await open(join(folder, name), constants.O_RDWR | constants.O_CREAT, 0o600));
  }
  // The names themselves have to survive too.
  const listing = await open(folder, constants.O_RDONLY);
  await listing.sync();
  await listing.close();
  const handle = (name: string): FileHandle => files.get(name)!;
  return {
    size: async (file) => (await handle(file).stat()).size,
    async read(file, at, length) {
      const bytes = Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle(file).read(bytes, done, length - done, at + done);
        if (bytesRead === 0) throw new DstackError('LEDGER_SHORT', `${file} ends before byte ${at + length}`);
        done += bytesRead;
      }
      return bytes;
    },
    async write(file, at, bytes) {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle(file).write(bytes, done, bytes.length - done, at + done);
        done += bytesWritten;
      }
    },
    cut: (file, length) => handle(file).truncate(length),
    sync: (file) => handle(file).datasync(),
    async close() {
      await Promise.all([...files.values()].map((file) => file.close()));
    },
  };
}
