/** What of the store anyone can read in its log, as the owner sets and changes it; over an etcd of the locked Debian. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { logResource } from '../../guest/kv/ledger/receipts.ts';
import { openLedger } from '../../guest/kv/open-ledger.ts';
import { type RunningStore, startStore } from '../../guest/kv/start.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { auditLog, fetchHead } from '../../lib/ledger/audit.ts';
import { noteSigner } from '../../lib/ledger/note.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { publicPrefixes } from '../../lib/protocol/store-public.ts';
import { storeShares } from '../../lib/protocol/store-shares.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-public-'));
const signer = noteSigner('test.example/log', new Uint8Array(32).fill(1));
const log = { info: () => {}, warn: () => {} };
let etcd: Etcd;
let running: RunningStore | undefined;

beforeAll(async () => {
  etcd = await startEtcd({ folder: join(folder, 'etcd') });
});
afterAll(async () => {
  await running?.close();
  await etcd?.stop();
  rmSync(folder, { recursive: true });
});

/** As the daemon of a VM with this `store.public` in its network.json. */
async function start(shown: Record<string, string[]>): Promise<void> {
  await running?.close();
  running = await startStore({
    socket: etcd.socket,
    urls: () => [],
    ledger: (upstream, onRevision) =>
      openLedger(
        {
          folder: join(folder, 'ledger'),
          origin: signer.name,
          seed: signer.seed,
          saltKey: new Uint8Array(32).fill(2),
          now: () => 1_800_000_000,
          onStop: () => {},
        },
        upstream,
        onRevision,
      ),
    shares: storeShares(),
    publicPrefixes: publicPrefixes({ public: shown }),
    log,
  });
}

const put = (key: string, value: string) =>
  running!.upstream.unary(KV.method.put, { key: utf8(key), value: utf8(value) });

const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString();

/** By who has the log's files alone: what each revision's leaf shows, `-` for salted hashes. */
async function shown(): Promise<string[]> {
  const ledger = running!.ledger.log!;
  const fetch = async (path: string) => (await logResource(ledger, path))!.bytes;
  await ledger.onDisk((await running!.upstream.unary(KV.method.range, { key: utf8('x') })).header!.revision);
  const texts: string[] = [];
  await auditLog(fetch, await fetchHead(fetch, signer.name, [signer]), {
    onLeaf: ({ readable, count }) => {
      expect(count).toBe(1);
      const [event] = readable;
      texts.push(event === undefined ? '-' : `${textOf(event.record.key)}=${textOf(event.value!)}`);
    },
  });
  return texts;
}

test('what is public is read by everyone; all else, and leaves of before a change, stay as they are', async () => {
  await start({});
  await put('a/shop/price/tea', '3');
  // The first is a key of the store's own.
  expect(await shown()).toEqual(['-', '-']);

  await start({ shop: ['price/'] });
  await put('a/shop/price/tea', '4');
  await put('a/shop/prices', 'hidden');
  await put('a/shop2/price/tea', 'hidden');
  const opened = await shown();
  expect(opened).toEqual([
    '-',
    '-',
    expect.stringContaining('k/ledger/policy={"publicPrefixes"'),
    'a/shop/price/tea=4',
    '-',
    '-',
  ]);

  // Started again with the same, nothing is written.
  await start({ shop: ['price/'] });
  expect(await shown()).toEqual(opened);

  await start({});
  await put('a/shop/price/tea', '5');
  expect(await shown()).toEqual([...opened, 'k/ledger/policy={"publicPrefixes":[],"leases":false}', '-']);
});
