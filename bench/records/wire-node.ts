/**
 * A node of the benchmark's network with connections: `node bench/records/wire-node.ts FOLDER GENESIS`. It answers each line that it is told by JSON:
 * `add FILE FROM COUNT`, `dial PORT COUNT` (once it has so many records and was compared), `state`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createRecords, LOG_FILE } from '../../host/records/folder.ts';
import { RecordsNode } from '../../host/records/node.ts';
import { keyOf } from '../../host/records/wire/sockets.fixture.ts';
import { RecordWire } from '../../host/records/wire/wire.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { MIB, now, recordsIn } from './files.ts';

export interface WireState {
  readonly port: number;
  readonly records: number;
  readonly residentMiB: number;
  readonly cpuSeconds: number;
  /** Since the last line. */
  readonly peakMiB: number;
  /** How long it took, where something was to be done. */
  readonly ms: number;
  /** Of all connections that stand, both ways. */
  readonly wireBytes: number;
  readonly addedBytes: number;
}

/** Added at once. */
const AT_ONCE = 64;
const LOOK_MS = 5;

const [folder, genesis] = process.argv.slice(2) as [string, string];
if (!existsSync(join(folder, LOG_FILE))) createRecords(folder, readFileSync(genesis));
const node = await RecordsNode.open(folder, { now });
const wire = new RecordWire({ store: node, staticKey: keyOf(folder) });
const port = await wire.listen('127.0.0.1', 0);

async function add(file: string, from: number, count: number): Promise<number> {
  let [nth, bytes] = [0, 0];
  let adding: Promise<unknown>[] = [];
  for (const record of recordsIn(file)) {
    nth += 1;
    if (nth <= from) continue;
    if (nth > from + count) break;
    bytes += record.length;
    adding.push(node.add(record, 'peer'));
    if (adding.length < AT_ONCE) continue;
    await Promise.all(adding);
    adding = [];
  }
  await Promise.all(adding);
  return bytes;
}

/** Until it has all, and a comparison found no difference. */
async function dial(to: number, count: number): Promise<void> {
  wire.dial({ host: '127.0.0.1', port: to });
  while (node.count < count || wire.peers.length === 0 || wire.lacking > 0)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}

let peakMiB = 0;
setInterval(() => (peakMiB = Math.max(peakMiB, process.memoryUsage.rss() / MIB)), 10).unref();
const say = (ms: number, addedBytes: number) => {
  const residentMiB = process.memoryUsage.rss() / MIB;
  const { user, system } = process.cpuUsage();
  const state: WireState = {
    ...{ port, records: node.count, residentMiB, cpuSeconds: (user + system) / 1e6, ms, addedBytes },
    peakMiB: Math.max(peakMiB, residentMiB),
    wireBytes: wire.peers.reduce((sum, { received, sentBytes }) => sum + received.bytes + sentBytes, 0),
  };
  printJson(state);
  peakMiB = 0;
};
say(0, 0);
for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...given] = line.split(' ') as [string, string, string, string];
  const began = performance.now();
  let addedBytes = 0;
  if (what === 'add') addedBytes = await add(given[0], Number(given[1]), Number(given[2]));
  if (what === 'dial') await dial(Number(given[0]), Number(given[1]));
  say(performance.now() - began, addedBytes);
}
await wire.stop();
await node.close();
