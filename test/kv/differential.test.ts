/** A bounded sample of `npm run torture -- --only alike`, with a fixed seed; and that the comparison notices what differs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { compareRandomly } from './differential/run.ts';
import { alike } from './rounds.ts';
import { StoreClient } from './support/client.ts';
import { BareEtcd } from './support/etcd.ts';

const timeout = 300_000;

test.concurrent('two hostile namespaces answer random requests as two bare etcds do', {
  timeout,
}, async () => {
  const { differences, operations, refused, messages } = await alike(31, 250);
  expect(differences).toEqual([]);
  expect(operations).toBe(500);
  expect(refused).toBeGreaterThan(30);
  expect(messages).toBeGreaterThan(30);
});

test.concurrent('a key that one side has and the other has not is a difference', { timeout }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const etcds = await Promise.all(['store', 'bare'].map((name) => BareEtcd.start(join(folder, name))));
  const [store, bare] = etcds.map(({ address }) => address) as [string, string];
  const client = new StoreClient(store);
  try {
    expect(await compareRandomly([{ store, bare }], 32, 60)).toMatchObject({ differences: [] });
    await client.call(KV.method.put, { key: Buffer.from('dir/1'), value: Buffer.from('leaked') });
    const { differences } = await compareRandomly([{ store, bare }], 33, 60);
    expect(differences.length).toBeGreaterThan(0);
  } finally {
    client.close();
    for (const etcd of etcds) await etcd.stop();
    rmSync(folder, { recursive: true });
  }
});
