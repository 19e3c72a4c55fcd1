/** Receipts and the log of a store over a real etcd, by the services' own messages, and read by a second implementation. */

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openLedger } from '../../guest/kv/open-ledger.ts';
import { type RunningStore, startStore } from '../../guest/kv/start.ts';
import type { Caller } from '../../guest/kv/types.ts';
import { logId, origin, secret, signer } from '../../lib/ledger/log.fixture.ts';
import { claimsDigest, claimsOfDelete, claimsOfPut, receiptInAnswer } from '../../lib/ledger/lskv.ts';
import { verifierKey } from '../../lib/ledger/note.ts';
import { hasValue, verifyReceipt } from '../../lib/ledger/receipt.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { ledgerSaltKey } from '../../lib/protocol/keys.ts';
import { storeShares } from '../../lib/protocol/store-shares.ts';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import {
  entriesOf,
  leafHash,
  openHead,
  path,
  requireTiles,
  rootByPath,
  treeHash,
} from '../support/independent-log.ts';
import { app, owner } from '../support/kv.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-receipts-'));
let etcd: Etcd;
let running: RunningStore;
let urls: { owner: string; app: string; other: string };

const ledgerSettings = {
  folder: join(folder, 'ledger'),
  origin,
  seed: signer.seed,
  saltKey: ledgerSaltKey(secret, 1, logId),
  now: () => 1_764_421_380,
  onStop: () => {},
};

async function listen(caller: Caller): Promise<string> {
  const door = running.door({ callerOf: () => caller });
  door.server.listen(0, '127.0.0.1');
  await once(door.server, 'listening');
  return `http://127.0.0.1:${(door.server.address() as AddressInfo).port}`;
}

async function start(): Promise<void> {
  const log = { info: () => {}, warn: () => {} };
  running = await startStore({
    socket: etcd.socket,
    urls: () => [],
    ledger: (upstream, onRevision) => openLedger(ledgerSettings, upstream, onRevision),
    shares: storeShares(),
    log,
  });
  urls = { owner: await listen(owner), app: await listen(app('one')), other: await listen(app('two')) };
}

beforeAll(async () => {
  etcd = await startEtcd({ folder: join(folder, 'etcd') });
  await start();
});
afterAll(async () => {
  await running?.close();
  await etcd?.stop();
  rmSync(folder, { recursive: true });
});

// biome-ignore lint/suspicious/noExplicitAny: answers of many kinds, looked into by the tests
type Answer = any;
async function call(url: string, method: string, body: object): Promise<Answer> {
  const response = await fetch(`${url}/v3${method}`, { method: 'POST', body: JSON.stringify(body) });
  return response.json();
}
const b64 = (text: string) => Buffer.from(text).toString('base64');
const putOf = (key: string, value: string) => ({ key: b64(key), value: b64(value) });
const revisionOf = ({ header }: Answer): string => header.revision;
async function receiptFor(url: string, revision: string): Promise<Answer> {
  return call(url, '/receipt/get_receipt', { revision });
}
const proven = (answer: Answer) => verifyReceipt(receiptInAnswer(answer), origin, [signer]);
const componentsOf = ({ receipt }: Answer) => {
  const { leaf_components, leafComponents, proof } = receipt.tx_receipt ?? receipt.txReceipt;
  const parts = leaf_components ?? leafComponents;
  return {
    claims: parts.claims_digest ?? parts.claimsDigest,
    leaf: parts.write_set_digest ?? parts.writeSetDigest,
    proof,
  };
};

describe('receipts', () => {
  test('of a put: its claims as LSKV has them, and the steps to the signed root', async () => {
    const revision = revisionOf(await call(urls.app, '/kv/put', putOf('greeting', 'hello')));
    const answer = await receiptFor(urls.app, revision);
    const { revision: found, basis, events, root } = proven(answer);
    expect([`${found}`, basis, Buffer.from(events[0]!.ownKey).toString()]).toEqual([
      revision,
      'put',
      'greeting',
    ]);
    expect(hasValue(events[0]!, utf8('hello'))).toBe(true);
    const { claims, leaf, proof } = componentsOf(answer);
    expect(claims).toBe(claimsDigest(claimsOfPut(utf8('greeting'), utf8('hello'), 0n)));
    const top = (proof ?? []).reduce(
      (at: Uint8Array, { left, right }: { left?: string; right?: string }) => {
        const sides = left ? [Buffer.from(left, 'hex'), at] : [at, Buffer.from(right!, 'hex')];
        return sha256(Uint8Array.of(1), ...sides);
      },
      Buffer.from(leaf, 'hex'),
    );
    expect(toHex(top)).toBe(toHex(root));
  });

  test('of a delete, of a transaction, and of what is compacted', async () => {
    const gone = revisionOf(await call(urls.app, '/kv/deleterange', { key: b64('greeting') }));
    const answer = await receiptFor(urls.app, gone);
    expect(proven(answer).basis).toBe('delete');
    expect(componentsOf(answer).claims).toBe(claimsDigest(claimsOfDelete(utf8('greeting'))));
    const success = ['a', 'b'].map((key) => ({ requestPut: putOf(key, `value of ${key}`) }));
    const txn = await receiptFor(urls.app, revisionOf(await call(urls.app, '/kv/txn', { success })));
    expect(proven(txn)).toMatchObject({ basis: 'events', leaf: { count: 2 } });
    expect(componentsOf(txn).claims ?? '').toBe('');
    const first = revisionOf(await call(urls.app, '/kv/put', putOf('c', '1')));
    const second = revisionOf(await call(urls.app, '/kv/put', putOf('c', '2')));
    await call(urls.app, '/kv/compaction', { revision: second, physical: true });
    expect(proven(await receiptFor(urls.app, first)).basis).toBe('put');
  });

  test('of a read: the value was current', async () => {
    await call(urls.app, '/kv/put', putOf('now', '1'));
    const written = revisionOf(await call(urls.app, '/kv/put', putOf('now', '2')));
    const later = revisionOf(await call(urls.owner, '/kv/put', putOf('elsewhere', '')));
    const read = proven(await call(urls.app, '/receipt/get_receipt', { key: b64('now') }));
    expect(`${read.revision}`).toBe(written);
    expect(read.current!.revision).toBeGreaterThanOrEqual(BigInt(later));
    expect(hasValue(read.events[0]!, utf8('2'))).toBe(true);
    expect(await call(urls.app, '/receipt/get_receipt', { key: b64('nothing') })).toMatchObject({ code: 5 });
  });

  test("not of another namespace's writes, nor of revisions that are not there: in the same words", async () => {
    const revision = revisionOf(await call(urls.app, '/kv/put', putOf('mine', '1')));
    for (const url of [urls.other, urls.owner])
      expect(await receiptFor(url, revision)).toMatchObject({ code: 5 });
    const [foreign, future] = [
      await receiptFor(urls.other, revision),
      await receiptFor(urls.other, '999999'),
    ];
    expect(foreign.message.replace(revision, 'N')).toBe(future.message.replace('999999', 'N'));
  });

  test('not of a key that the user may not read', async () => {
    const { other } = urls;
    const secret = revisionOf(await call(other, '/kv/put', putOf('secret', '1')));
    const gone = revisionOf(await call(other, '/kv/deleterange', { key: b64('secret') }));
    const open = revisionOf(await call(other, '/kv/put', putOf('open', '1')));
    for (const name of ['root', 'guest']) await call(other, '/auth/user/add', { name, password: 'p' });
    await call(other, '/auth/role/add', { name: 'root' });
    await call(other, '/auth/role/add', { name: 'some' });
    await call(other, '/auth/role/grant', { name: 'some', perm: { permType: 'READ', key: b64('open') } });
    await call(other, '/auth/user/grant', { user: 'root', role: 'root' });
    await call(other, '/auth/user/grant', { user: 'guest', role: 'some' });
    await call(other, '/auth/enable', {});
    const { token } = await call(other, '/auth/authenticate', { name: 'guest', password: 'p' });
    const asGuest = async (revision: string) => {
      const request = {
        method: 'POST',
        headers: { authorization: token },
        body: JSON.stringify({ revision }),
      };
      return (await fetch(`${other}/v3/receipt/get_receipt`, request)).json();
    };
    expect(proven(await asGuest(open)).basis).toBe('put');
    for (const revision of [secret, gone])
      expect(await asGuest(revision)).toMatchObject({ message: expect.stringMatching(/permission denied/) });
  });
});

test('TxStatus: committed is what a signed head is over', async () => {
  const revision = revisionOf(await call(urls.app, '/kv/put', putOf('status', '1')));
  await receiptFor(urls.app, revision);
  expect((await call(urls.app, '/maintenance/tx_status', { revision })).status).toBe('Committed');
  const unknown = await call(urls.app, '/maintenance/tx_status', { revision: '999999' });
  expect(unknown.status ?? 'Unknown').toBe('Unknown');
});

describe('read by a second implementation', () => {
  const get = async (name: string) => {
    const response = await fetch(`${urls.owner}/ledger/${name}`);
    expect(response.status, name).toBe(200);
    return Buffer.from(await response.arrayBuffer());
  };

  test('the head, each entry, each tile and each receipt', async () => {
    for (let at = 0; at < 300; at += 50) {
      const writes = Array.from({ length: 50 }, (_, one) =>
        call(urls.app, '/kv/put', putOf(`k${at + one}`, 'v')),
      );
      await Promise.all(writes);
    }
    const last = revisionOf(await call(urls.app, '/kv/put', putOf('last', '1')));
    const text = receiptInAnswer(await receiptFor(urls.app, last));
    const head = openHead((await get('checkpoint')).toString(), verifierKey(signer));
    expect(head.origin).toBe(origin);
    expect(head.size).toBeGreaterThan(300);
    const leaves = (await entriesOf(head.size, get)).map(leafHash);
    expect(leaves).toHaveLength(head.size);
    expect(treeHash(leaves).equals(head.root)).toBe(true);
    await requireTiles(leaves, get);

    const [proof, note] = [text.slice(0, text.indexOf('\n\n')), text.slice(text.indexOf('\n\n') + 2)];
    const signed = openHead(note, verifierKey(signer));
    const [, extra, index, ...hashes] = proof.split('\n') as [string, string, string, ...string[]];
    const { entry } = JSON.parse(Buffer.from(extra.slice(6), 'base64').toString());
    const place = Number(index.slice(6));
    const steps = hashes.map((hash) => Buffer.from(hash, 'base64'));
    expect(place).toBe(Number(last) - 2);
    expect(steps).toEqual(path(place, leaves.slice(0, signed.size)));
    const root = rootByPath(place, signed.size, leafHash(Buffer.from(entry, 'base64')), steps);
    expect(root.equals(signed.root)).toBe(true);
  });

  test('what is not in the log is not found, and nothing can be written', async () => {
    for (const name of ['tile/0/999', 'tile/9/000', 'heads', 'records', '%2e%2e/records'])
      expect((await fetch(`${urls.owner}/ledger/${name}`)).status).toBe(404);
    expect((await fetch(`${urls.owner}/ledger/checkpoint`, { method: 'PUT' })).status).toBe(405);
    expect((await fetch(`${urls.owner}/ledger/checkpoint`)).headers.get('cache-control')).toBe('no-cache');
    expect((await fetch(`${urls.owner}/ledger/tile/0/000`)).headers.get('cache-control')).toMatch(
      /immutable/,
    );
  });
});

test('after a restart of all of it, on the same files, receipts of before are made again', async () => {
  const revision = revisionOf(await call(urls.app, '/kv/put', putOf('before', '1')));
  const before = proven(await receiptFor(urls.app, revision));
  await running.close();
  await etcd.restart();
  await start();
  await call(urls.app, '/kv/put', putOf('after', '1'));
  const after = proven(await receiptFor(urls.app, revision));
  expect(toHex(after.leafHash)).toBe(toHex(before.leafHash));
  expect(after.events.length).toBe(1);
});
