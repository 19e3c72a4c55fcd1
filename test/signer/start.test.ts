import { afterAll, beforeAll, expect, test } from 'vitest';
import { recordKey } from '../../guest/signer/chain-signer.ts';
import type { SignerDaemon } from '../../guest/signer/daemon.ts';
import { seal, sealedKey } from '../../guest/signer/keys.ts';
import { importKey, importState, makeBackup, recover, showState } from '../../guest/signer/operator.ts';
import { EtcdRecords } from '../../guest/signer/records.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { freePort } from '../support/free-port.ts';
import { TestEtcd } from './support/etcd.ts';
import { configText, freshRecord, publicKeyOf, startWith, testSecret } from './support/signer.ts';

const secret = testSecret();
let etcd: TestEtcd;
let client: EtcdClient;
let records: EtcdRecords;

beforeAll(async () => {
  etcd = await TestEtcd.start();
  client = new EtcdClient({ endpoints: etcd.endpoints });
  records = new EtcdRecords(client);
});
afterAll(async () => {
  client?.close();
  await etcd?.stop();
});

function start(id: string, change: (text: string) => string = (text) => text): Promise<SignerDaemon> {
  const text = configText(etcd.endpoints, [{ id, protocol: 'v0.38', nodes: [], more: 'key = "network"' }]);
  return startWith(`validator = []\n${change(text)}`, secret);
}

const refused = (code: string) => expect.objectContaining({ code });

test('a store of one member is refused, unless that is accepted, and then the status says so', async () => {
  await freshRecord(etcd.endpoints, secret, 'one');
  const strict = (text: string): string =>
    text.replace('accept_host_rollback = true', 'accept_host_rollback = false');
  await expect(start('one', strict)).rejects.toThrow(refused('HOST_ROLLBACK'));
  const daemon = await start('one');
  expect(daemon.status().rollbackProtected).toBe(false);
  await daemon.stop();
});

test('no start without a record of what was signed, or with one that is not understood', async () => {
  await expect(start('two')).rejects.toThrow(refused('SIGN_STATE_MISSING'));
  await records.swap(recordKey('two', publicKeyOf(secret, 'two')), undefined, '{"version":2}');
  await expect(start('two')).rejects.toThrow(refused('SIGN_STATE'));
});

test('an imported key that is not there, or that another network sealed, is no reason to take another one', async () => {
  const imported = (text: string): string => text.replace('key = "network"', 'key = "imported"');
  await expect(start('three', imported)).rejects.toThrow(refused('KEY_NOT_IMPORTED'));
  await records.swap(sealedKey('three'), undefined, seal(testSecret(), 'three', new Uint8Array(32)));
  await expect(start('three', imported)).rejects.toThrow(refused('KEY_SEALED'));
});

test('a key that never signed is imported once more after an import that was cut short', async () => {
  const desk = { records, secret };
  const chain = { id: 'eight', key: 'imported' as const };
  const seed = new Uint8Array(32).fill(8);
  // The record was written, and the key was not.
  await records.swap(recordKey('eight', ed25519Key(seed).publicKey), undefined, encodeState(NOTHING_SIGNED));
  await importKey(desk, chain, seed, 'fresh');
  await importKey(desk, chain, seed, 'fresh');
  expect(await showState(desk, chain)).toEqual(NOTHING_SIGNED);
});

test('with the first member of the list down the others are asked', async () => {
  const down = `http://127.0.0.1:${await freePort()}`;
  const some = new EtcdClient({ endpoints: [down, ...etcd.endpoints] });
  const through = new EtcdRecords(some);
  expect(await through.members()).toBe(1);
  some.close();
  const again = new EtcdClient({ endpoints: [down, ...etcd.endpoints] });
  expect(await new EtcdRecords(again).read('none')).toBeUndefined();
  again.close();
});

test('a record only goes forward, whoever changes it', async () => {
  const desk = { records, secret };
  const chain = { id: 'four', key: 'network' as const };
  const state = { ...NOTHING_SIGNED, height: 5n, step: 2 };
  await importState(desk, chain, 'fresh');
  await importState(desk, chain, state);
  await importState(desk, chain, state);
  const newer = refused('STATE_NEWER');
  await expect(importState(desk, chain, 'fresh')).rejects.toThrow(newer);
  await expect(importState(desk, chain, { ...state, step: 1 })).rejects.toThrow(newer);
  await expect(importState(desk, chain, { ...state, signBytes: Uint8Array.of(1) })).rejects.toThrow(newer);
  expect(await showState(desk, chain)).toEqual(state);
});

test('a key comes back with its state in another network, and never behind what that one knows', async () => {
  const chain = { id: 'five', key: 'imported' as const };
  const seed = new Uint8Array(32).fill(5);
  const state = { ...NOTHING_SIGNED, height: 50n, step: 3 };
  const desk = { records, secret };
  await importKey(desk, chain, seed, state);
  const backup = await makeBackup(desk, chain);
  const other = { records: new EtcdRecords(client, 'other/'), secret: testSecret() };
  await recover(other, chain, backup);
  expect(await showState(other, chain)).toEqual(state);
  await importState(other, chain, { ...state, height: 51n });
  await expect(recover(other, chain, backup)).rejects.toThrow(refused('STATE_NEWER'));
  await expect(recover(other, { ...chain, id: 'six' }, backup)).rejects.toThrow(refused('BACKUP_CHAIN'));
  await expect(importKey(desk, chain, new Uint8Array(32).fill(6), 'fresh')).rejects.toThrow(
    refused('KEY_OTHER'),
  );
  await expect(importKey(desk, { ...chain, key: 'network' }, seed, state)).rejects.toThrow(
    refused('KEY_NETWORK'),
  );
});
