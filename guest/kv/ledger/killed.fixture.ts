/**
 * A process that follows revisions onto a real disk, and is killed (SIGKILL) at its `killAt`-th operation on it: before a sync, or with half of
 * a write written. What was acknowledged is on its standard output by then.
 *
 *     node guest/kv/ledger/killed.fixture.ts FOLDER KILL_AT REVISIONS
 */
import { writeSync } from 'node:fs';
import { put } from '../../../lib/ledger/log.fixture.ts';
import { type Disk, openDisk } from './disk.ts';
import { ListedRevisions, openOn, type Revisions } from './ledger.fixture.ts';
import { FILES } from './log-files.ts';

/** Batches of growing size, so that bundles and levels begin within them. */
export const killedRevisions = (count: number): Revisions =>
  Array.from({ length: count }, (_, at) => [put(`o/${at}`, 'x'.repeat(at % 50))]);

function killing(disk: Disk, killAt: number): Disk {
  let operations = 0;
  const step = async (before: () => Promise<void> = async () => {}) => {
    operations += 1;
    if (operations !== killAt) return;
    await before();
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => {});
  };
  return {
    ...disk,
    async write(file, at, bytes) {
      await step(() => disk.write(file, at, bytes.subarray(0, bytes.length / 2)));
      await disk.write(file, at, bytes);
    },
    async sync(file) {
      await step();
      await disk.sync(file);
    },
  };
}

if (import.meta.main) {
  const [folder, killAt, count] = process.argv.slice(2) as [string, string, string];
  const all = killedRevisions(Number(count));
  const disk = killing(await openDisk(folder, FILES), Number(killAt));
  const ledger = await openOn(disk);
  const from = ledger.sizes.disk;
  const source = new ListedRevisions(all.slice(0, from));
  await ledger.follow(source, source.newest);
  for (let size = from; size < all.length; size += 200) {
    source.push(...all.slice(size, size + 200));
    await ledger.onDisk(source.newest);
    writeSync(1, `${source.revisions.length}\n`);
  }
  await ledger.close();
}
