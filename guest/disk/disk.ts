/**
 * From a raw virtio disk to a mounted, encrypted, integrity-checked file system.
 *
 * Whatever a host does to the disk, the outcome is that exactly the disk that was formatted is opened, or an error. Only a
 * blank disk together with `create` is ever formatted. The superblock is copied to tmpfs and
 * checked there, and dm-integrity is given that copy. Replaying single old sectors is not detected here: see
 * docs/threat-model.md.
 */

import { randomBytes } from 'node:crypto';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesEqual, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { DiskStatusReply } from '../../lib/protocol/sockets.ts';
import { AppFolders } from './app-folders.ts';
import {
  AREA_OFFSET,
  decodeSuperblock,
  encodeSuperblock,
  INTEGRITY_SUPERBLOCK_BYTES,
  isBlank,
  providedSectors,
  readClaim,
  SECTOR,
  SUPERBLOCK_BYTES,
  type Superblock,
} from './superblock.ts';
import * as system from './system.ts';
import {
  areaSectorsOf,
  areaTable,
  BLOCK,
  cryptTable,
  type DiskKeys,
  diskKeys,
  integrityTable,
  names,
  pathOf,
} from './tables.ts';

/** The smallest disk that is formatted, in bytes: dm-integrity's journal alone takes some of it. */
const MIN_DISK_BYTES = 32 * 1024 * 1024;

/** What apps leave to the node itself, however much they write. */
const RESERVED_PERCENT = '1';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface DiskOptions {
  serial: string;
  /** Where tmpfs copies go: this process's own runtime directory. */
  runDirectory: string;
  mountPoint: string;
  /** The daemons' own folders, by name, and whose they are. What is reserved of the disk, `acme` may use. */
  owners: Readonly<Partial<Record<'acme' | 'etcd' | 'kv', Owner | undefined>>>;
  /** host.json's hint: a blank disk may be formatted. */
  mayCreate: boolean;
  /** The key of one disk, from the replicator; waits until the node has joined. */
  keyOf(diskId: Uint8Array, epoch?: number): Promise<{ epoch: number; key: Uint8Array }>;
  report(status: DiskStatusReply): void;
}

/**
 * Opens the disk; formats it first if the host asked for that and the disk is blank. Never throws: the status gives the reason.
 * @returns the folders of apps on it; undefined when it is not mounted
 */
export async function bringUpDisk(options: DiskOptions): Promise<AppFolders | undefined> {
  let diskId: Hex | undefined;
  try {
    const disk = system.findDisk(options.serial);
    if (disk === undefined) {
      options.report({ state: 'absent' });
      return undefined;
    }
    const start = await system.readAt(disk.path, 0, AREA_OFFSET);
    const format = isBlank(start) && options.mayCreate;
    if (!isBlank(start) || !options.mayCreate) readClaim(start);

    // Counted from when the key arrived: before that the node was joining, and the disk was not the cause of the wait.
    let started = performance.now();
    const seconds = () => Math.round((performance.now() - started) / 100) / 10;
    const timed: DiskOptions = {
      ...options,
      async keyOf(...args) {
        const key = await options.keyOf(...args);
        started = performance.now();
        return key;
      },
    };
    const superblock = format ? await formatDisk(disk, timed) : await openDisk(disk, start, timed);
    diskId = toHex(superblock.diskId);
    const folders = await mount(options);
    options.report({ state: 'ready', diskId, seconds: seconds() });
    return folders;
  } catch (error) {
    const message = error instanceof Error ? error.message.slice(0, 500) : 'failed';
    options.report({
      state: 'failed',
      code: codeOf(error),
      message,
      ...(diskId === undefined ? {} : { diskId }),
    });
    return undefined;
  }
}

type Disk = { path: string; bytes: number };

async function openDisk(disk: Disk, start: Uint8Array, options: DiskOptions): Promise<Superblock> {
  const claim = readClaim(start);
  options.report({ state: 'opening', diskId: toHex(claim.diskId) });
  const { key } = await options.keyOf(claim.diskId, claim.epoch);
  const keys = diskKeys(key);
  const superblock = decodeSuperblock(start.subarray(0, SUPERBLOCK_BYTES), keys.superblockMac);
  if (superblock.areaSectors > areaSectorsOf(disk.bytes)) {
    throw new DstackError(
      'DISK_TOO_SMALL',
      'the data disk is smaller than when it was formatted: the host truncated it',
    );
  }
  await mapArea(disk, superblock.integritySuperblock, superblock.areaSectors, options);
  await activate(keys, superblock.providedSectors, 'J');
  return superblock;
}

/** The superblock is written last: after an interrupted format the disk still counts as blank. */
async function formatDisk(disk: Disk, options: DiskOptions): Promise<Superblock> {
  if (disk.bytes < MIN_DISK_BYTES) {
    throw new DstackError(
      'DISK_TOO_SMALL',
      `a data disk has at least ${MIN_DISK_BYTES} bytes, this one has ${disk.bytes}`,
    );
  }
  const diskId = new Uint8Array(randomBytes(16));
  const shown = toHex(diskId);
  options.report({ state: 'formatting', diskId: shown, done: 0 });
  const { key, epoch } = await options.keyOf(diskId);
  const keys = diskKeys(key);
  const areaSectors = areaSectorsOf(disk.bytes);

  const blank = new Uint8Array(INTEGRITY_SUPERBLOCK_BYTES);
  const copy = await mapArea(disk, blank, areaSectors, options);
  await system.createDevice(names.sealed, integrityTable(keys, BLOCK / SECTOR, 'D'));
  await system.removeDevice(names.sealed);
  const sectors = providedSectors(await system.readAt(copy, 0, INTEGRITY_SUPERBLOCK_BYTES));

  await activate(keys, sectors, 'D');
  await system.writeZeros(pathOf(names.data), sectors * SECTOR, (done) =>
    options.report({ state: 'formatting', diskId: shown, done }),
  );
  await deactivate();
  await activate(keys, sectors, 'J');
  // The whole device was just zeroed under its keys, so inode tables and journal need no second zeroing.
  await system.run('mkfs.ext4', [
    '-q',
    '-m',
    RESERVED_PERCENT,
    '-I',
    '256',
    '-O',
    'quota,project',
    '-E',
    'quotatype=prjquota,lazy_itable_init=1,lazy_journal_init=1,nodiscard',
    pathOf(names.data),
  ]);

  const integritySuperblock = await system.readAt(copy, 0, INTEGRITY_SUPERBLOCK_BYTES);
  const superblock = { diskId, epoch, areaSectors, providedSectors: sectors, integritySuperblock };
  const bytes = encodeSuperblock(superblock, keys.superblockMac);
  await system.writeAt(disk.path, 0, bytes);
  if (!bytesEqual(await system.readAt(disk.path, 0, bytes.length), bytes)) {
    throw new DstackError('DISK_FORMAT', 'the superblock does not read back as it was written');
  }
  return superblock;
}

/** @returns the tmpfs file that takes the place of dm-integrity's superblock */
async function mapArea(
  disk: Disk,
  integritySuperblock: Uint8Array,
  areaSectors: number,
  options: DiskOptions,
): Promise<string> {
  const copy = join(options.runDirectory, 'integrity-superblock');
  await writeFile(copy, integritySuperblock, { mode: 0o600 });
  const loop = await system.attachLoop(copy);
  await system.createDevice(names.area, areaTable(loop, disk.path, areaSectors));
  return copy;
}

async function activate(keys: DiskKeys, sectors: number, mode: 'D' | 'J'): Promise<void> {
  await system.createDevice(names.sealed, integrityTable(keys, sectors, mode));
  await system.createDevice(names.data, cryptTable(keys, sectors));
}

async function deactivate(): Promise<void> {
  await system.removeDevice(names.data);
  await system.removeDevice(names.sealed);
}

async function mount({
  mountPoint,
  owners,
}: Pick<DiskOptions, 'mountPoint' | 'owners'>): Promise<AppFolders> {
  const device = pathOf(names.data);
  const limited = await system.hasProjectQuotas(device);
  const flags = ['nosuid', 'nodev', 'errors=remount-ro'];
  if (limited) flags.push('prjquota');
  if (owners.acme !== undefined) flags.push(`resuid=${owners.acme.uid}`);
  await system.run('mount', ['-t', 'ext4', '-o', flags.join(','), device, mountPoint]);
  for (const [name, owner] of Object.entries(owners)) await ownFolder(join(mountPoint, name), owner);
  const folders = new AppFolders(mountPoint, limited);
  await folders.prepare();
  return folders;
}

async function ownFolder(folder: string, owner: Owner | undefined): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (owner !== undefined) await chown(folder, owner.uid, owner.gid);
}
