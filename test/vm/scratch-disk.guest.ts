/**
 * A data disk inside a dev VM that no node uses, opened and closed by the disk daemon's own code; the callers play the
 * replicator (keys) and the host (raw reads and writes).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { bringUpDisk } from '../../guest/disk/disk.ts';
import { findDisk } from '../../guest/disk/system.ts';
import type { DiskStatusReply } from '../../lib/protocol/sockets.ts';

const SERIAL = 'dstack-data';
export const mountPoint = '/run/scratch';
const runDirectory = '/run/scratch-disk';

export const run = (command: string, ...args: string[]): void => {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
};
const tryRun = (command: string, ...args: string[]): void => {
  try {
    run(command, ...args);
  } catch {
    // Nothing of the kind was there to take down.
  }
};

/** The raw disk, as the host sees it while the VM is off. */
export const raw = findDisk(SERIAL)!;
export function peek(at: number, length: number): Buffer {
  const file = openSync(raw.path, 'r');
  const bytes = Buffer.alloc(length);
  readSync(file, bytes, 0, length, at);
  closeSync(file);
  return bytes;
}
export function poke(at: number, bytes: Buffer): void {
  const file = openSync(raw.path, 'r+');
  writeSync(file, bytes, 0, bytes.length, at);
  fsyncSync(file);
  closeSync(file);
}

export interface Bring {
  network?: string;
  mayCreate?: boolean;
}

export async function up({ network = 'ours', mayCreate = false }: Bring = {}): Promise<DiskStatusReply> {
  mkdirSync(mountPoint, { recursive: true });
  mkdirSync(runDirectory, { recursive: true });
  let last: DiskStatusReply = { state: 'opening' };
  await bringUpDisk({
    owners: {},
    serial: SERIAL,
    runDirectory,
    mountPoint,
    mayCreate,
    // A key for each disk and network, as in the real hierarchy.
    keyOf: async (diskId) => ({
      epoch: 1,
      key: new Uint8Array(createHash('sha256').update(network).update(diskId).digest()),
    }),
    report: (status) => {
      last = status;
    },
  });
  return last;
}

export function down(): void {
  tryRun('umount', mountPoint);
  for (const name of ['dstack-data', 'dstack-sealed', 'dstack-area'])
    tryRun('dmsetup', 'remove', '--noudevrules', '--noudevsync', '--retry', name);
  tryRun('losetup', '--detach-all');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** A line that the test on the host judges. */
export function say(name: string, status: DiskStatusReply, more: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ case: name, ...status, ...more }));
}

/** What a reader gets: the text or the error's code, never anything else. */
export function readOrCode(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
