/** The store's disk is full, or does not sync: what was acknowledged before is there when the disk is well again, and nothing was after. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { status } from '../../lib/etcd/errors.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { BadDisk, type Kind } from './support/bad-disk.ts';
import { type ServiceError, StoreClient } from './support/client.ts';
import { compareLedger } from './support/ledger.ts';
import { Store } from './support/store.ts';

const timeout = 300_000;
const isRoot = process.getuid?.() === 0;
/** etcd's log takes 64 MB from its start, and as much for the next file. */
const SMALL_MB: Readonly<Record<Kind, number>> = { full: 150, unsynced: 60 };
/** As etcd says it when it gives up: a write that fails, or a sync that fails for a write that was taken (any of the three, by what the kernel notices first). */
const REASONS: Readonly<Record<Kind, RegExp>> = {
  full: /no space left/,
  unsynced: /(commit|sync|save).*(input\/output error|no space left|read-only file system)/,
};
const MOST_WRITES = 400;
const VALUE = 1_000_000;

async function failsAndComesBack(kind: Kind): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const disk = await BadDisk.mount(kind, SMALL_MB[kind]);
  let store: Store | undefined;
  let client: StoreClient | undefined;
  try {
    store = await Store.start(join(folder, 'store'), { disk, ledgerDisk: disk });
    client = new StoreClient(store.address);
    const acknowledged = await writeUntilRefused(client);
    const [kv] = store.pids;
    await store.etcdEnded();
    expect(readFileSync(join(store.folder, 'etcd.log'), 'utf8')).toMatch(REASONS[kind]);
    // It says that it is away, and does not answer from what it remembers.
    await expect(client.call(KV.method.range, { key: Buffer.from('0') })).rejects.toThrow();
    // A ledger that found no room waits for some. One whose sync failed has ended, as a sync tells nothing of what is on the disk.
    if (kind === 'unsynced') await store.kill('kv');
    disk.enlarge(1_000);
    await store.start();
    expect(store.pids[0] === kv).toBe(kind === 'full');
    for (const [n, revision] of acknowledged.entries()) {
      const { kvs } = await client.call(KV.method.range, { key: Buffer.from(`${n}`) }, 20_000);
      expect(kvs[0]?.modRevision, `write ${n} of ${acknowledged.length}`).toBe(revision);
      expect(kvs[0]?.value.length).toBe(VALUE);
    }
    await client.call(KV.method.put, { key: Buffer.from('after'), value: Buffer.from('after') }, 20_000);
    expect(await compareLedger(store.socket, store.address)).toEqual([]);
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

test.concurrent('the disk of the ledger is full: few writes are acknowledged that it has no leaf of, and all of them have one once there is room', {
  timeout,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const ledgerDisk = await BadDisk.mount('full', 1);
  const store = await Store.start(join(folder, 'store'), { ledgerDisk, kv: { mostBehind: 500 } });
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
    const pids = [...store.pids];
    ledgerDisk.enlarge(100);
    const { header } = await client.call(KV.method.put, { key: Buffer.from('after') }, 60_000);
    expect(header!.revision).toBeGreaterThan(acknowledged.at(-1)!);
    expect(store.pids).toEqual(pids);
    expect(await compareLedger(store.socket, store.address)).toEqual([]);
  } finally {
    client.close();
    await store.stop();
    await ledgerDisk.remove();
    rmSync(folder, { recursive: true });
  }
});

/** With code and words. */
async function refusalOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'accepted',
    ({ code, details }: ServiceError) => `${code} ${details}`,
  );
}

test.concurrent('somebody else fills the disk, to the last byte: writes are refused, all else is done, and it goes on by itself', {
  timeout,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const disk = await BadDisk.mount('full', 300);
  const options = { disk, ledgerDisk: disk, kv: { watched: true } };
  const store = await Store.start(join(folder, 'store'), options);
  const client = new StoreClient(store.address);
  const key = (n: number) => Buffer.from(`${n}`);
  const put = (n: number) => client.call(KV.method.put, { key: key(n), value: Buffer.alloc(1_000, `${n}`) });
  const there = async () => {
    const { kvs } = await client.call(KV.method.range, { key: Buffer.of(0), rangeEnd: Buffer.of(0) });
    // The last one is put until that is refused, and may have been before.
    return kvs.flatMap((kv) => (`${Buffer.from(kv.key)}` === '60' ? [] : `${Buffer.from(kv.key)}`)).sort();
  };
  const full = `${status.resourceExhausted} etcdserver: mvcc: database space exceeded`;
  try {
    const left = new Set<string>();
    for (let n = 0; n < 60; n += 1) {
      await put(n);
      left.add(`${n}`);
    }
    const remove = async (n: number) => {
      await client.call(KV.method.deleteRange, { key: key(n) });
      left.delete(`${n}`);
    };
    disk.run('dd if=/dev/zero of=others bs=1M count=120');
    await expect.poll(() => refusalOf(put(60)), { timeout: 60_000 }).toBe(full);
    for (let n = 0; n < 10; n += 1) await remove(n);
    disk.run('cat /dev/zero > more || true');
    for (let n = 10; n < 20; n += 1) await remove(n);
    expect(await refusalOf(put(60))).toBe(full);
    expect(await there()).toEqual([...left].sort());
    // A start finds all of it too, and the same disk.
    await store.kill('kv');
    await store.start();
    expect(await there()).toEqual([...left].sort());
    expect(await refusalOf(put(60))).toBe(full);
    const pids = [...store.pids];
    disk.run('rm others more');
    await expect.poll(() => refusalOf(put(60)), { timeout: 60_000 }).toBe('accepted');
    expect(store.pids).toEqual(pids);
    expect(await there()).toEqual([...left].sort());
    expect(await compareLedger(store.socket, store.address)).toEqual([]);
  } finally {
    client.close();
    await store.stop();
    await disk.remove();
    rmSync(folder, { recursive: true });
  }
});
