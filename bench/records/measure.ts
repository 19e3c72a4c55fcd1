/** Measures a node in this process: `node bench/records/measure.ts FOLDER COUNT`, with what make.ts left there. Prints figures as JSON. */
import { readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createRecords, INDEX_FILE, LOG_FILE } from '../../host/records/folder.ts';
import { RecordsNode } from '../../host/records/node.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { MAX_ORDINAL, ordinalRanges } from '../../lib/protocol/records/ordinals.ts';
import type { Figures } from '../records.ts';
import { MIB, now, recordsIn, round } from './files.ts';
import { keysOf, PER_NAME } from './make.ts';

/** Offered at a time, as a few peers would. */
const AT_ONCE = 64;
const GETS = 20_000;
const QUERIES = 200;

/** Records a second, of this process' CPU and of the clock. */
async function taking(node: RecordsNode, path: string): Promise<{ cpu: number; clock: number }> {
  const [cpu, clock] = [process.cpuUsage(), performance.now()];
  let count = 0;
  let adding: Promise<unknown>[] = [];
  for (const record of recordsIn(path)) {
    adding.push(node.add(record, 'peer'));
    count += 1;
    if (adding.length < AT_ONCE) continue;
    await Promise.all(adding);
    adding = [];
  }
  await Promise.all(adding);
  const { user, system } = process.cpuUsage(cpu);
  return { cpu: count / ((user + system) / 1e6), clock: count / ((performance.now() - clock) / 1000) };
}

/** Median and p99 of so many runs, in ms. */
function timesOf(runs: number, run: (n: number) => void): { median: number; p99: number } {
  const times = Array.from({ length: runs }, (_, n) => {
    const begun = performance.now();
    run(n);
    return performance.now() - begun;
  }).toSorted((a, b) => a - b);
  return { median: times[runs >> 1]!, p99: times[Math.floor(runs * 0.99)]! };
}

async function starting(folder: string): Promise<number> {
  const begun = performance.now();
  const node = await RecordsNode.open(folder, { now });
  const took = performance.now() - begun;
  await node.close();
  return took;
}

const [around, count] = process.argv.slice(2) as [string, string];
const folder = join(around, 'node');
createRecords(folder, readFileSync(join(around, 'genesis')));
const node = await RecordsNode.open(folder, { now });
const taken = await taking(node, join(around, 'records'));
if (node.count !== Number(count) + 1) throw new Error(`${node.count} records are there`);
const residentMiB = process.memoryUsage.rss() / MIB;
const ids = [...node.items()].map(({ id }) => id);
const one = timesOf(GETS, (n) => void node.get(ids[(n * 7919) % ids.length]!));
const network = fromHex(node.network);
const names = Array.from({ length: Math.floor((Number(count) - 100) / PER_NAME) }, (_, n) =>
  keysOf(network, n),
);
const some = timesOf(QUERIES, (n) => {
  const { claimKey, ordinalKey } = names[(n * 31) % names.length]!;
  const { sets } = node.query({ names: [{ claimKey, tags: ordinalRanges(ordinalKey, 0n, MAX_ORDINAL) }] });
  if (sets.length !== PER_NAME) throw new Error(`${sets.length} sets`);
});
const worked = await taking(node, join(around, 'worked'));
const records = node.count;
await node.close();
const sizeOf = (name: string) => statSync(join(folder, name)).size / records;
const [logBytes, indexBytes] = [sizeOf(LOG_FILE), sizeOf(INDEX_FILE)];
const startMs = await starting(folder);
rmSync(join(folder, INDEX_FILE));
const figures: Figures = {
  recordsPerCpuSecond: round(taken.cpu),
  workedPerCpuSecond: round(worked.cpu),
  recordsPerSecond: round(taken.clock),
  getMs: round(one.median),
  getP99Ms: round(one.p99),
  queryMs: round(some.median),
  queryP99Ms: round(some.p99),
  residentMiB: round(residentMiB),
  logBytes: Math.round(logBytes),
  indexBytes: Math.round(indexBytes),
  bytesPerRecord: Math.round(logBytes + indexBytes),
  startMs: round(startMs),
  startWithoutIndexMs: round(await starting(folder)),
};
printJson(figures);
