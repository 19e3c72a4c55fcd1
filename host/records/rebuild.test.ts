import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { FOUNDER, idOf, write } from '../../lib/protocol/records/network.fixture.ts';
import { NOON } from '../../lib/protocol/records/records.fixture.ts';
import { chainOf, GENESIS } from './chain.fixture.ts';
import { LOG_FILE } from './folder.ts';
import { rebuildRecords } from './rebuild.ts';
import { freshRecords, openNode } from './records.fixture.ts';

const chain = chainOf(6);
/** On genesis alone. */
const lone = write(FOUNDER, { links: [recordId(GENESIS)], timestamp: NOON + 1_000_000 });

/** A folder with the chain and the lone one, and its log with one bit of these records flipped. */
async function damagedBy(...records: DagRecord[]) {
  const folder = freshRecords();
  const node = await openNode(folder, { isSynchronised: () => false });
  for (const record of [...chain, lone]) await node.add(encodeRecord(record), 'peer');
  const dump = [...node.dump()];
  await node.close();
  const path = join(folder, LOG_FILE);
  const bytes = readFileSync(path);
  for (const record of records) bytes[bytes.indexOf(encodeRecord(record)) + 70]! ^= 1;
  writeFileSync(path, bytes);
  return { folder, path, bytes, dump };
}

test('what is sound and stands on nothing that is lost is kept; the damaged log too; the rest is taken again', async () => {
  const { folder, bytes } = await damagedBy(chain[3]!);
  await expect(openNode(folder)).rejects.toMatchObject({ code: 'RECORDS_LOG_DAMAGED' });
  const rebuilt = await rebuildRecords(folder);
  const unreadable = 13 + encodeRecord(chain[3]!).length;
  expect(rebuilt).toMatchObject({ records: 5, dropped: 2, unreadable });
  expect(readFileSync(rebuilt.damaged)).toEqual(bytes);
  expect(statSync(join(folder, LOG_FILE)).mode & 0o777).toBe(0o600);
  const node = await openNode(folder);
  expect([...node.items()].map(({ id }) => id).toSorted()).toEqual(
    [GENESIS, ...chain.slice(0, 3), lone].map(idOf).toSorted(),
  );
  for (const record of chain) await node.add(encodeRecord(record), 'peer');
  expect(node.count).toBe(8);
  await node.close();
  // A second damage does not go over the first one.
  expect((await rebuildRecords(folder)).damaged).not.toBe(rebuilt.damaged);
});

test('of a log without fault, all is kept as it was', async () => {
  const { folder, dump } = await damagedBy();
  expect(await rebuildRecords(folder)).toMatchObject({ records: 8, dropped: 0, unreadable: 0 });
  const withoutSalt = (lines: string[]) => lines.filter((line) => !line.startsWith('covered'));
  expect(withoutSalt([...(await openNode(folder)).dump()])).toEqual(withoutSalt(dump));
});

test('without its genesis it needs that, and no other', async () => {
  const { folder } = await damagedBy(GENESIS);
  await expect(rebuildRecords(folder)).rejects.toMatchObject({ code: 'RECORDS_GENESIS' });
  await expect(rebuildRecords(folder, encodeRecord(lone))).rejects.toMatchObject({ code: 'RECORDS_GENESIS' });
  expect(await rebuildRecords(folder, encodeRecord(GENESIS))).toMatchObject({ records: 8, dropped: 0 });
});

test('of a log whose header is lost nothing can be read', async () => {
  const { folder, path, bytes } = await damagedBy();
  writeFileSync(path, bytes.with(20, bytes[20]! ^ 1));
  await expect(rebuildRecords(folder)).rejects.toMatchObject({ code: 'RECORDS_LOG_FORM' });
});
