/** npm's etcd3, unmodified, at the store and at a bare etcd: the same calls come to the same. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { app, owner, startKv, type TestKv } from '../support/kv.ts';
import { installLocked } from '../support/locked-packages.ts';

let bare: Etcd;
let kv: TestKv;

beforeAll(async () => {
  await installLocked(import.meta.dirname);
  [bare, kv] = await Promise.all([startEtcd({ bare: true }), startKv()]);
});
afterAll(async () => {
  await Promise.all([bare?.stop(), kv?.stop()]);
});

async function calls(address: string): Promise<Record<string, unknown>> {
  const program = join(import.meta.dirname, 'calls.mjs');
  const { stdout } = await promisify(execFile)(process.execPath, [program, `http://${address}`]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('keys, transactions, watches, leases, locks, elections and users, as the owner and as an app', async () => {
  const theirs = await calls(bare.address);
  expect(JSON.stringify(theirs)).not.toContain('rejected');
  for (const caller of [owner, app('one')]) expect(await calls(await kv.open(caller))).toEqual(theirs);
  expect(theirs).toMatchObject({
    kv: { text: 'other', number: 2, none: null, count: 2, previous: 'one', deleted: '2', after: 0 },
    transactions: [false, true, true, 4, 'was there'],
    locks: ['EtcdLockFailedError', 4, false],
    election: ['first', 'second', null],
    auth: ['for all', 'denied', 'denied', 'denied', 'for root', ['reader', 'root']],
  });
  expect(kv.warnings).toEqual([]);
}, 300_000);
