/**
 * A process that adds records to a node on a disk that is too small, then makes room, sees the node go on, and starts it again. Prints what it saw as JSON.
 *
 *     node host/records/full.fixture.ts FOLDER BALLAST AT_ONCE
 *
 * BALLAST: a file on that disk which can be removed. AT_ONCE: so many records are added at a time.
 */
import { rmSync } from 'node:fs';
import { printJson } from '../../lib/daemon/terminal.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { idOf } from '../../lib/protocol/records/network.fixture.ts';
import { chainOf, GENESIS } from './chain.fixture.ts';
import { createRecords } from './folder.ts';
import { RecordsNode } from './node.ts';

const RECORDS = 400;
const now = () => Number.MAX_SAFE_INTEGER;

const [folder, ballast, count] = process.argv.slice(2) as [string, string, string];
const atOnce = Number(count);
const records = chainOf(RECORDS);
createRecords(folder, encodeRecord(GENESIS));
const node = await RecordsNode.open(folder, { now, roomAfter: 100 });
const acknowledged: DagRecord[] = [];
const codes = new Set<string>();
for (let at = 0; at < RECORDS; at += atOnce) {
  const adding = records.slice(at, at + atOnce).map(async (record) => {
    try {
      await node.add(encodeRecord(record), 'peer');
      acknowledged.push(record);
    } catch (error) {
      codes.add(codeOf(error));
    }
  });
  await Promise.all(adding);
}
const stopped = node.stopped?.message;
const shown = acknowledged.filter((record) => node.has(idOf(record))).length;
rmSync(ballast);
while (node.stopped !== undefined) await new Promise((resolve) => setTimeout(resolve, 50));
for (const record of records.slice(0, RECORDS / 2)) await node.add(encodeRecord(record), 'peer');
const wentOn = node.count;
await node.close();
const again = await RecordsNode.open(folder, { now });
const kept = acknowledged.filter((record) => again.has(idOf(record))).length;
await Promise.all(records.map((record) => again.add(encodeRecord(record), 'peer')));
printJson({
  acknowledged: acknowledged.length,
  shown,
  kept,
  codes: [...codes],
  stopped,
  wentOn,
  atLast: again.count,
});
await again.close();
