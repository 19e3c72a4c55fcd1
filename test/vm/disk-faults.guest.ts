/**
 * Runs inside a dev VM, as root, against a scratch data disk: what a host may do to a disk, and what comes of it. The
 * disk daemon's own code does the work; this file plays the replicator (keys) and the host (raw writes to the disk).
 *
 * Prints one JSON line a case: {"case", "state", "code", ...}; the test on the host judges them.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { bringUpDisk } from '../../guest/disk/disk.ts';
import type { DiskStatusReply } from '../../lib/protocol/sockets-apps.ts';

const SERIAL = 'dstack-data';
const mountPoint = '/run/scratch';
const runDirectory = '/run/scratch-disk';
const MIB = 1024 * 1024;

const run = (command: string, ...args: string[]): void => {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
};
const tryRun = (command: string, ...args: string[]): void => {
  try {
    run(command, ...args);
  } catch {
    // Nothing of the kind was there to take down.
  }
};

/** The raw disk, as the host has it in its hands while the VM is off. */
const raw = '/dev/vdb';
function peek(at: number, length: number): Buffer {
  const file = openSync(raw, 'r');
  const bytes = Buffer.alloc(length);
  readSync(file, bytes, 0, length, at);
  closeSync(file);
  return bytes;
}
function poke(at: number, bytes: Buffer): void {
  const file = openSync(raw, 'r+');
  writeSync(file, bytes, 0, bytes.length, at);
  fsyncSync(file);
  closeSync(file);
}

interface Bring {
  network?: string;
  mayCreate?: boolean;
}

async function up({ network = 'ours', mayCreate = false }: Bring = {}): Promise<DiskStatusReply> {
  mkdirSync(mountPoint, { recursive: true });
  mkdirSync(runDirectory, { recursive: true });
  let last: DiskStatusReply = { state: 'opening' };
  await bringUpDisk({
    serial: SERIAL,
    runDirectory,
    mountPoint,
    mayCreate,
    appsOwner: { uid: 0, gid: 0 },
    // A key for each disk and network, as the real hierarchy gives.
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

function down(): void {
  tryRun('umount', mountPoint);
  for (const name of ['dstack-data', 'dstack-sealed', 'dstack-area'])
    tryRun('dmsetup', 'remove', '--noudevrules', '--noudevsync', '--retry', name);
  tryRun('losetup', '--detach-all');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

function say(name: string, status: DiskStatusReply, more: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ case: name, ...status, ...more }));
}

const note = () => join(mountPoint, 'note');
/** What a reader gets: the text, or the error's code. Never anything else. */
function readNote(): string {
  try {
    return readFileSync(note(), 'utf8');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

async function main(): Promise<void> {
  say('blank, no create', await up());
  down();
  say('blank, create', await up({ mayCreate: true }));
  const text = 'a text that is easy to find again\n'.repeat(20_000);
  writeFileSync(note(), text);
  run('umount', mountPoint);
  down();
  say('opened again', await up(), { whole: readNote() === text });
  down();
  say('create on a disk that is ours', await up({ mayCreate: true }), { whole: readNote() === text });
  down();
  say('another network’s', await up({ network: 'theirs' }));
  down();

  const superblock = peek(0, 8192);
  for (const at of [20, 44, 5000]) {
    const changed = Buffer.from(superblock);
    changed[at] = changed[at]! ^ 1;
    poke(0, changed);
    say(`superblock, byte ${at}`, await up());
    down();
  }
  poke(0, Buffer.alloc(8192));
  say('superblock zeroed', await up());
  down();
  const foreign = Buffer.alloc(8192);
  foreign.write('LUKS\xba\xbe', 'latin1');
  poke(0, foreign);
  say('another kind of disk, create', await up({ mayCreate: true }));
  down();
  poke(0, superblock);
  say('superblock put back', await up(), { whole: readNote() === text });
  down();

  // Every 16th KiB of the area loses a bit: whatever is read then is an error, never other text.
  const saved = new Map<number, Buffer>();
  const size = Number(readFileSync('/sys/block/vdb/size', 'utf8')) * 512;
  for (let at = 2 * MIB; at < size - 4096; at += 16 * 1024) {
    const byte = peek(at + 100, 1);
    saved.set(at + 100, byte);
    poke(at + 100, Buffer.from([byte[0]! ^ 1]));
  }
  const flipped = await up();
  say('bits flipped all over', flipped, {
    read: flipped.state === 'ready' ? readNote().slice(0, 20) : flipped.code,
    flips: saved.size,
  });
  down();
  for (const [at, byte] of saved) poke(at, byte);
  say('bits put back', await up(), { whole: readNote() === text });
  down();

  // What is not detected: an old state of the whole disk, every block with its tag.
  const old = peek(0, size);
  await up();
  writeFileSync(note(), 'newer');
  run('umount', mountPoint);
  down();
  poke(0, old);
  say('an old state of the disk put back', await up(), { whole: readNote() === text });
  down();

  await up();
  let full = '';
  try {
    writeFileSync(join(mountPoint, 'filler'), Buffer.alloc(size));
  } catch (error) {
    full = String((error as NodeJS.ErrnoException).code);
  }
  say(
    'full',
    { state: 'ready' },
    { full, whole: readNote() === text, filler: existsSync(join(mountPoint, 'filler')) },
  );
  down();
  console.log('{"case":"end"}');
}

await main();
