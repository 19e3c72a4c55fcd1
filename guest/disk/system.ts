/**
 * The few programs and files of the system that opening a disk needs. Nothing goes through a shell, and no key through
 * an argument: dmsetup reads its table from standard input.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';

/** The data disk by its virtio serial, or undefined when the host gave none. */
export function findDisk(serial: string): { path: string; bytes: number } | undefined {
  const folder = '/sys/block';
  for (const name of readdirSync(folder)) {
    const file = join(folder, name, 'serial');
    if (!existsSync(file) || readFileSync(file, 'utf8').trim() !== serial) continue;
    return { path: `/dev/${name}`, bytes: Number(readFileSync(join(folder, name, 'size'), 'utf8')) * 512 };
  }
  return undefined;
}

/** @throws DISK_COMMAND with what the program said; the input is never part of it */
export function run(command: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args], { timeout: 120_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim());
      else
        reject(
          new DstackError(
            'DISK_COMMAND',
            `${command} ${args.join(' ')} failed: ${stderr.trim().slice(0, 400)}`,
          ),
        );
    });
    // When a program ends without reading its input, its exit code counts and not our broken pipe.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input ?? '');
  });
}

/** Creates a mapped device from a table. There is no udev to wait for: dmsetup makes the node itself. */
export async function createDevice(name: string, table: string): Promise<void> {
  await run('dmsetup', ['create', '--noudevrules', '--noudevsync', name], `${table}\n`);
  await run('dmsetup', ['mknodes', name]);
}

export async function removeDevice(name: string): Promise<void> {
  await run('dmsetup', ['remove', '--noudevrules', '--noudevsync', '--retry', name]);
}

/** Of ext4's superblock: https://www.kernel.org/doc/html/latest/filesystems/ext4/globals.html */
const EXT4 = { at: 1024, bytes: 1024, readOnlyFeatures: 0x64, quota: 0x100, project: 0x2000 } as const;

/**
 * Whether the ext4 file system on a device counts what each project has. It must have been made so.
 * @throws DISK_COMMAND when that cannot be read
 */
export async function hasProjectQuotas(device: string): Promise<boolean> {
  const superblock = await readAt(device, EXT4.at, EXT4.bytes).catch((cause: Error) => {
    throw new DstackError('DISK_COMMAND', `the file system of the data disk is unreadable: ${cause.message}`);
  });
  const features = new DataView(superblock.buffer).getUint32(EXT4.readOnlyFeatures, true);
  return (features & EXT4.quota) !== 0 && (features & EXT4.project) !== 0;
}

/** A loop device over a file on tmpfs. */
export async function attachLoop(file: string): Promise<string> {
  return run('losetup', ['--find', '--show', file]);
}

export async function readAt(path: string, offset: number, length: number): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const buffer = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0)
        throw new DstackError('DISK_TOO_SMALL', `${path} ends before byte ${offset + length}`);
      done += bytesRead;
    }
    return buffer;
  } finally {
    await file.close();
  }
}

/** Durable when it returns. */
export async function writeAt(path: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  try {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Fills a device with zeros. Durable when it returns. `progress` is called with the fraction done, 0 to 1. */
export async function writeZeros(
  path: string,
  bytes: number,
  progress: (done: number) => void,
): Promise<void> {
  const zeros = Buffer.alloc(4 * 1024 * 1024);
  const file = await open(path, 'r+');
  try {
    for (let at = 0; at < bytes; ) {
      const { bytesWritten } = await file.write(zeros, 0, Math.min(zeros.length, bytes - at), at);
      at += bytesWritten;
      progress(at / bytes);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
