/** etcd's disk is full, or does not sync: what was acknowledged before is there when the disk is well again, and nothing was after. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { BadDisk, type Kind } from './support/bad-disk.ts';
import { StoreClient } from './support/client.ts';
import { compareLedger } from './support/ledger.ts';
import { Store } from './support/store.ts';

const timeout = 300_000;
const isRoot = process.getuid?.() === 0;
/** etcd's log takes 64 MB from its start, and as much for the next file. */
const SMALL_MB: Readonly<Record<Kind, number>> = { full: 150, unsynced: 60 };
/** As etcd says it when it gives up: a write that fails, or a sync that fails for a write that was taken (either error, by the kernel). */
const REASONS: Readonly<Record<Kind, RegExp>> = {
  full: /no space left/,
  unsynced: /(commit|sync|save).*(input\/output error|no space left)/,
};
const MOST_WRITES = 400;
const VALUE = 1_000_000;

async function failsAndComesBack(kind: Kind): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const disk = await BadDisk.mount(kind, SMALL_MB[kind]);
  let store: Store | undefined;
  let client: StoreClient | undefined;
  try {
    store = await Store.start(join(folder, 'store'), { disk });
    client = new StoreClient(store.address);
    const acknowledged = await writeUntilRefused(client);
    const [kv] = store.pids;
    await store.etcdEnded();
    expect(readFileSync(join(store.folder, 'etcd.log'), 'utf8')).toMatch(REASONS[kind]);
    // It says that it is away, and does not answer from what it remembers.
    await expect(client.call(KV.method.range, { key: Buffer.from('0') })).rejects.toThrow();
    disk.enlarge(1_000);
    await store.start();
    expect(store.pids[0]).toBe(kv);
    for (const [n, revision] of acknowledged.entries()) {
      const { kvs } = await client.call(KV.method.range, { key: Buffer.from(`${n}`) }, 20_000);
      expect(kvs[0]?.modRevision, `write ${n} of ${acknowledged.length}`).toBe(revision);
      expect(kvs[0]?.value.length).toBe(VALUE);
    }
    await client.call(KV.method.put, { key: Buffer.from('after'), value: Buffer.from('after') }, 20_000);
  } finally {
    client?.close();
    await store?.stop();
    await disk.remove();
    rmSync(folder, { recursive: true });
  }
}

/** @returns the revisions of the writes that were answered, of the keys 0, 1, 2 … */
async function writeUntilRefused(client: StoreClient): Promise<bigint[]> {
  const revisions: bigint[] = [];
  for (let n = 0; n < MOST_WRITES; n += 1) {
    const put = { key: Buffer.from(`${n}`), value: Buffer.alloc(VALUE, `${n}`) };
    const answer = await client.call(KV.method.put, put, 15_000).catch(() => undefined);
    if (answer === undefined) {
      expect(n).toBeGreaterThan(3);
      return revisions;
    }
    revisions.push(answer.header!.revision);
  }
  throw new Error(`${MOST_WRITES} MB went onto a disk that has less`);
}

test.concurrent('the disk is full', { timeout }, () => failsAndComesBack('full'));

// Only root may mount a file system that is on a file.
(isRoot ? test.concurrent : test.skip)('the disk does not sync', { timeout }, () =>
  failsAndComesBack('unsynced'),
);

test.concurrent('the disk of the ledger is full: no write is acknowledged that it has no leaf of', {
  timeout,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const ledgerDisk = await BadDisk.mount('full', 1);
  const store = await Store.start(join(folder, 'store'), { ledgerDisk });
  const client = new StoreClient(store.address);
  try {
    const acknowledged: bigint[] = [];
    for (let refused = false; !refused; ) {
      if (acknowledged.length > 20_000) throw new Error('a megabyte has room for more leaves than that');
      const batch = Array.from({ length: 50 }, (_, n) =>
        client.call(KV.method.put, { key: Buffer.from(`${n}`), value: Buffer.from('x') }, 15_000),
      );
      for (const one of await Promise.allSettled(batch)) {
        if (one.status === 'fulfilled') acknowledged.push(one.value.header!.revision);
        else refused = true;
      }
    }
    // It does not begin to acknowledge again by itself.
    await expect(client.call(KV.method.put, { key: Buffer.from('x') }, 15_000)).rejects.toThrow();
    ledgerDisk.enlarge(100);
    await store.kill('kv');
    await store.start();
    const { header } = await client.call(KV.method.put, { key: Buffer.from('after') }, 20_000);
    expect(header!.revision).toBeGreaterThan(acknowledged.at(-1)!);
    expect(await compareLedger(store.socket, store.address)).toEqual([]);
  } finally {
    client.close();
    await store.stop();
    await ledgerDisk.remove();
    rmSync(folder, { recursive: true });
  }
});
