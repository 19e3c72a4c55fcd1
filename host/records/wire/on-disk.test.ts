/** The wire between nodes whose records are on disks, which one of them closes and opens again. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { chainOf } from '../chain.fixture.ts';
import type { RecordsNode } from '../node.ts';
import { freshRecords, NOW, openNode } from '../records.fixture.ts';
import { keyOf } from './sockets.fixture.ts';
import { RecordWire } from './wire.ts';

const LOOPBACK = '127.0.0.1';
const RECORDS = chainOf(300);
const IDS = RECORDS.map((record) => toHex(recordId(record)));

function wireOf(store: RecordsNode, label: string): RecordWire {
  const wire = new RecordWire({
    store,
    staticKey: keyOf(label),
    limits: { interval: 300, again: 50, redial: [50, 300] },
    now: () => NOW,
  });
  onTestFinished(() => wire.stop());
  return wire;
}

const take = async (node: RecordsNode, records: readonly (typeof RECORDS)[number][]): Promise<void> => {
  for (const record of records)
    expect(await node.add(encodeRecord(record), 'self')).toMatchObject({ kind: 'members' });
};

test('a node that was away has what it missed, both have what either takes from then on, and they still have it after they were closed', async () => {
  const folders = [freshRecords(), freshRecords()] as const;
  const [a, b] = [await openNode(folders[0]), await openNode(folders[1])];
  await take(a, RECORDS.slice(0, 200));
  await take(b, RECORDS.slice(0, 50));
  const [wireOfA, wireOfB] = [wireOf(a, 'a'), wireOf(b, 'b')];
  wireOfB.dial({ host: LOOPBACK, port: await wireOfA.listen(LOOPBACK, 0) });
  await vi.waitFor(() => expect(b.count).toBe(201), 30_000);

  // While they are connected: what one takes is told to the other, which writes it before it says that it has it.
  await take(b, RECORDS.slice(200, 300));
  await vi.waitFor(() => expect(a.count).toBe(301), 30_000);
  await vi.waitFor(() => expect(wireOfA.isSynchronised(1, 60_000)).toBe(true), 30_000);

  await Promise.all([wireOfA.stop(), wireOfB.stop()]);
  await Promise.all([a.close(), b.close()]);
  for (const folder of folders) {
    const again = await openNode(folder);
    expect(again.count).toBe(301);
    expect(IDS.filter((id) => !again.has(id))).toEqual([]);
    await again.close();
  }
});
