/** Folders and nodes for the tests of a node's records. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { SECOND } from '../../lib/protocol/records/network.fixture.ts';
import { NOON } from '../../lib/protocol/records/records.fixture.ts';
import { GENESIS } from './chain.fixture.ts';
import { createRecords } from './folder.ts';
import { type NodeOptions, RecordsNode } from './node.ts';

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
