/**
 * A node at which a peer lies (liars.ts), with the limits of a network: `node bench/records/liar-node.ts FOLDER`. For each line that it is told it says as
 * JSON what it has cost so far, and what it has.
 */
import { createInterface } from 'node:readline';
import { createRecords } from '../../host/records/folder.ts';
import { RecordsNode } from '../../host/records/node.ts';
import { keyOf } from '../../host/records/wire/sockets.fixture.ts';
import { RecordWire } from '../../host/records/wire/wire.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { genesisRecord, NOW } from '../../lib/protocol/records/network.fixture.ts';
import { membersOfLiars } from './lies.ts';

export interface Cost {
  readonly port: number;
  readonly network: string;
  readonly cpuSeconds: number;
  readonly residentMiB: number;
  readonly peakMiB: number;
  readonly records: number;
  /** Connections that ended, by code. */
  readonly ends: Readonly<Record<string, number>>;
}

const MIB = 1 << 20;
const folder = process.argv[2]!;
createRecords(folder, encodeRecord(genesisRecord()));
const node = await RecordsNode.open(folder, { now: () => NOW });
await Promise.all(membersOfLiars().map((record) => node.add(encodeRecord(record), 'self')));
const ends: Record<string, number> = {};
const wire = new RecordWire({
  store: node,
  staticKey: keyOf('node of liars'),
  onEvent: ({ kind, code = 'none' }) => {
    if (kind !== 'connected') ends[code] = (ends[code] ?? 0) + 1;
  },
});
const port = await wire.listen('127.0.0.1', 0);
let peakMiB = 0;
const look = () => {
  peakMiB = Math.max(peakMiB, process.memoryUsage.rss() / MIB);
};
setInterval(look, 50).unref();
for await (const line of createInterface({ input: process.stdin })) {
  const { user, system } = process.cpuUsage();
  if (line === 'begin') peakMiB = 0;
  look();
  const cost: Cost = {
    ...{ port, network: node.network, cpuSeconds: (user + system) / 1e6, peakMiB, ends },
    ...{ residentMiB: process.memoryUsage.rss() / MIB, records: node.count },
  };
  printJson(cost);
}
await wire.stop();
await node.close();
