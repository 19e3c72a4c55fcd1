/**
 * Runs inside a dev VM until the host cuts its power: first prints what is on the disk from earlier rounds, then writes in
 * the two ways in which programs make data durable, and prints each time what is safe.
 *
 *     node power-cut.mjs ROUND
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { mountPoint, say, up } from './scratch-disk.guest.ts';

const round = Number(process.argv[2]);
const journal = join(mountPoint, 'journal');
const folder = join(mountPoint, 'files');
const padding = 'x'.repeat(700);
const fileText = (name: string): string => `${name} ${padding.repeat(8)}\n`;

const status = await up({ mayCreate: round === 1 });
say(`round ${round}`, status, status.state === 'ready' ? { records: records(), files: wholeFiles() } : {});
if (status.state === 'ready') await writeForEver();
console.log('{"case":"end"}');

/** How many records each round has in the journal, from its first without a gap; whatever else stands there is damage. */
function records(): Record<string, number> {
  const counts: Record<string, number> = {};
  if (!existsSync(journal)) return counts;
  for (const line of readFileSync(journal, 'utf8').split('\n')) {
    const [, of, number] = /^(\d+) (\d+) x{700}$/.exec(line) ?? [];
    if (of !== undefined && Number(number) === (counts[of] ?? 0) + 1) counts[of] = Number(number);
  }
  return counts;
}

/** The same for files that were renamed into place: each must be whole. */
function wholeFiles(): Record<string, number> {
  const counts: Record<string, number> = {};
  if (!existsSync(folder)) return counts;
  const there = new Set(readdirSync(folder));
  for (let of = 1; of < round; of++) {
    let last = 0;
    while (there.has(`${of}-${last + 1}`) && isWhole(`${of}-${last + 1}`)) last += 1;
    counts[of] = last;
  }
  return counts;
}

function isWhole(name: string): boolean {
  return readFileSync(join(folder, name), 'utf8') === fileText(name);
}

async function writeForEver(): Promise<never> {
  mkdirSync(folder, { recursive: true });
  const log = openSync(journal, 'a');
  // A torn last line of the previous round must not swallow our first.
  writeSync(log, '\n');
  const directory = openSync(folder, 'r');
  const busy = openSync(join(mountPoint, 'busy'), 'w');
  for (let number = 1; ; number++) {
    writeSync(log, `${round} ${number} ${padding}\n`);
    fsyncSync(log);
    const name = `${round}-${number}`;
    const file = openSync(join(folder, 'draft'), 'w');
    writeSync(file, fileText(name));
    fsyncSync(file);
    closeSync(file);
    renameSync(join(folder, 'draft'), join(folder, name));
    fsyncSync(directory);
    console.log(`safe ${number}`);
    // Other data on its way to the disk, for which nothing is guaranteed.
    writeSync(busy, Buffer.alloc(256 * 1024, number), 0, 256 * 1024, (number % 16) * 256 * 1024);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
