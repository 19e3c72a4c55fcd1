/** Folders, networks and records for the tests of a node's records. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { uint64, utf8 } from '../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { FOUNDER, genesisRecord, SECOND, write } from '../../lib/protocol/records/network.fixture.ts';
import { keysFor, NOON } from '../../lib/protocol/records/records.fixture.ts';
import { createRecords } from './folder.ts';
import { type NodeOptions, RecordsNode } from './node.ts';

export const GENESIS = genesisRecord();
export const NOW = NOON + 3600 * SECOND;

/** A folder that is gone after the test. */
export function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-records-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The folder of a node that has genesis alone. */
export function freshRecords(): string {
  const folder = freshFolder();
  createRecords(folder, encodeRecord(GENESIS));
  return folder;
}

/** Closed after the test, if not before. */
export async function openNode(folder: string, options: NodeOptions = {}): Promise<RecordsNode> {
  const node = await RecordsNode.open(folder, { now: () => NOW, ...options });
  onTestFinished(() => node.close());
  return node;
}

/** So many of the founder's records, each on the two before it, under a few names. */
export function chainOf(count: number): DagRecord[] {
  const records = [GENESIS];
  for (let n = 1; n <= count; n++) {
    const links = records.slice(-2).map(recordId);
    const names = [{ keys: keysFor(`name ${n % 5}`), ordinal: BigInt(n) }];
    const value = Buffer.concat([utf8('value '), uint64(n)]);
    records.push(write(FOUNDER, { links, names, value, timestamp: NOON + n * SECOND }));
  }
  return records.slice(1);
}
