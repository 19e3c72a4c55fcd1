/**
 * A process that adds records to a node, throws values away and wants them again meanwhile, and prints the identity of each that is acknowledged, until it is killed: by whoever started it, or by itself
 * (SIGKILL) at the `killAt`-th operation of the log, with a part of a write written.
 *
 *     node killed.fixture.js FOLDER RECORDS KILL_AT SEED
 *
 * RECORDS has the records one after the other, each behind its length in 4 bytes.
 */
import { readFileSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { Random } from '../../test/torture/random.ts';
import { PRUNED_BEFORE } from './chain.fixture.ts';
import type { LogFile } from './log.ts';
import { RecordsNode } from './node.ts';

const WRITERS = 8;
/** Records between two times that values are thrown away, or wanted again. */
const PRUNED_EVERY = 12;

function killing(handle: FileHandle, killAt: number, random: Random): LogFile {
  let operations = 0;
  const step = async (before: () => Promise<unknown> = async () => {}) => {
    operations += 1;
    if (operations !== killAt) return;
    await before();
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => {});
  };
  return {
    async write(bytes, at) {
      await step(() => handle.write(bytes, 0, random.between(0, bytes.length), at));
      await handle.write(bytes, 0, bytes.length, at);
    },
    async sync() {
      await step();
      await handle.datasync();
      await step();
    },
  };
}

function recordsIn(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    records.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return records;
}

async function main(): Promise<void> {
  const [folder, file, killAt, seed] = process.argv.slice(2) as [string, string, string, string];
  const random = new Random(Number(seed));
  const node = await RecordsNode.open(folder, {
    fileOf: (handle) => killing(handle, Number(killAt), random),
    now: () => Number.MAX_SAFE_INTEGER,
  });
  // Near to their order, so that some wait for others.
  const records = recordsIn(file).slice(node.count - 1);
  for (let at = 0; at + 4 < records.length; at += random.between(1, 4)) {
    const other = at + random.between(0, 3);
    [records[at], records[other]] = [records[other]!, records[at]!];
  }
  writeSync(1, 'open\n');
  const write = async () => {
    for (let record = records.shift(); record !== undefined; record = records.shift()) {
      if (records.length % PRUNED_EVERY === 0) await node.prune({ current: true, before: PRUNED_BEFORE });
      if (records.length % PRUNED_EVERY === 6) await node.wantAgain();
      const verdict = await node.add(record, 'peer');
      if (verdict.kind === 'members') writeSync(1, `${verdict.ids.join('\n')}\n`);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  await node.close();
}

await main();
