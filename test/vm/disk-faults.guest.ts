/**
 * Runs inside a dev VM, as root, against a scratch data disk: what a host may do to a disk, and the result. The
 * disk daemon's own code does the work; this file plays the replicator (keys) and the host (raw writes to the disk).
 *
 * Prints one JSON line per case: {"case", "state", "code", ...}; the test on the host judges them.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { down, mountPoint, peek, poke, raw, readOrCode, run, say, up } from './scratch-disk.guest.ts';

const MIB = 1024 * 1024;

const note = () => join(mountPoint, 'note');
const readNote = (): string => readOrCode(note());
const everything = (): Buffer => peek(0, raw.bytes);

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
  for (const mayCreate of [false, true]) {
    const before = everything();
    const refused = await up({ network: 'theirs', mayCreate });
    down();
    say(`another network's${mayCreate ? ', create' : ''}`, refused, {
      untouched: everything().equals(before),
    });
  }

  const superblock = peek(0, 8192);
  for (const at of [20, 44, 5000]) {
    const changed = Buffer.from(superblock);
    changed[at] = changed[at]! ^ 1;
    poke(0, changed);
    say(`superblock, byte ${at}`, await up());
    down();
  }
  poke(0, Buffer.alloc(8192));
  const zeroed = everything();
  say('superblock zeroed', await up());
  down();
  say('superblock zeroed: the rest', { state: 'absent' }, { untouched: everything().equals(zeroed) });
  const foreign = Buffer.alloc(8192);
  foreign.write('LUKS\xba\xbe', 'latin1');
  poke(0, foreign);
  const theirs = everything();
  const kept = await up({ mayCreate: true });
  down();
  say('another kind of disk, create', kept, { untouched: everything().equals(theirs) });
  poke(0, superblock);
  say('superblock put back', await up(), { whole: readNote() === text });
  down();

  // Every 16th KiB of the area loses a bit: whatever is read then is an error, never other text.
  const saved = new Map<number, Buffer>();
  const size = raw.bytes;
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

  // Not detected: an old state of the whole disk, every block with its tag.
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

  // Another node's disk of the same network opens, since all nodes have the same secret, and says whose it is.
  const first = everything();
  poke(0, Buffer.alloc(size));
  const second = await up({ mayCreate: true });
  writeFileSync(note(), 'the other disk');
  run('umount', mountPoint);
  down();
  poke(0, first);
  const swapped = await up();
  say("swapped with another node's", swapped, {
    whole: readNote() === text,
    differs: swapped.diskId !== second.diskId,
  });
  down();
  console.log('{"case":"end"}');
}

await main();
