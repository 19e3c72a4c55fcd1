/** A node that runs: what it starts with, and what it refuses to. */

import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { nameKeys } from '../../../lib/protocol/records/names.ts';
import { FOUNDER, rulesOf } from '../../../lib/protocol/records/network.fixture.ts';
import { bytesOf } from '../../../lib/protocol/records/records.fixture.ts';
import { publicKeyOfSeed } from '../../../lib/protocol/records/strict-ed25519.ts';
import { makeGenesis } from './genesis-file.ts';
import { runningOf } from './home.ts';
import { RecordsService, type ServiceOptions } from './service.ts';

const silent = { info: () => {}, warn: () => {}, error: () => {} };
const FREE = { host: '127.0.0.1', port: 0 };
const genesisNamed = (name: string) =>
  makeGenesis(rulesOf({ name, amendable: ['name', 'contact'] }), FOUNDER, Date.now());
const GENESIS = genesisNamed('one');

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-records-service-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function start(folder: string, change: Partial<ServiceOptions> = {}): Promise<RecordsService> {
  const service = await RecordsService.start({ folder, http: FREE, listen: FREE, log: silent, ...change });
  onTestFinished(() => service.close());
  return service;
}

const codeOfStart = (folder: string, change: Partial<ServiceOptions> = {}): Promise<string> =>
  start(folder, change).then(() => 'started', codeOf);

test('a place that is taken is told, and the folder is free again', async () => {
  const folder = freshFolder();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const taken = { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  onTestFinished(() => void server.close());
  expect(await codeOfStart(folder, { genesis: GENESIS, http: taken })).toBe('RECORDS_LISTEN');
  expect(await codeOfStart(folder, { listen: taken })).toBe('RECORDS_LISTEN');
  expect(runningOf(folder)).toBeUndefined();
  const service = await start(folder);
  expect(runningOf(folder)).toMatchObject({ url: service.url, pid: process.pid });
  await service.close();
  expect(existsSync(join(folder, 'running.json'))).toBe(false);
});

test('a folder is of one network, with one secret or none', async () => {
  const folder = freshFolder();
  expect(await codeOfStart(folder)).toBe('RECORDS_NO_NETWORK');
  expect(await codeOfStart(folder, { genesis: utf8('{}') })).toBe('RECORDS_GENESIS');
  await (await start(folder, { genesis: GENESIS })).close();
  expect(await codeOfStart(folder, { genesis: genesisNamed('other') })).toBe('RECORDS_NETWORK_OTHER');
  expect(await codeOfStart(folder, { secret: bytesOf('secret') })).toBe('RECORDS_SECRET');
  await (await start(folder, { genesis: GENESIS })).close();
});

test('the newest words of the founder count, after a new start too', async () => {
  const folder = freshFolder();
  const first = await start(folder, { genesis: GENESIS });
  for (const said of [{ name: 'two', contact: 'a' }, { contact: 'b' }]) {
    await first.make({ type: 'genesis', names: [], value: utf8(JSON.stringify(said)) }, FOUNDER);
    // Within one millisecond the identity decides.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(first.status(false)).toMatchObject({ name: 'two', contact: 'b', comment: '' });
  await first.close();
  expect((await start(folder)).status(false)).toMatchObject({ name: 'two', contact: 'b' });
});

test('an oracle names what came second under a name', async () => {
  const oracle = bytesOf('oracle');
  const rules = rulesOf({
    name: 'watched',
    bytesPerSolution: 1 << 20,
    authorities: [toHex(publicKeyOfSeed(oracle))],
  });
  const service = await start(freshFolder(), { genesis: makeGenesis(rules, FOUNDER, Date.now()), oracle });
  const names = [{ keys: nameKeys(utf8('n'), { network: service.node.genesis.id }), ordinal: 0n }];
  const write = (owner: Uint8Array) =>
    service.make({ type: 'datum', names, value: utf8('x') }, owner, { threads: 1 });
  await write(FOUNDER);
  const second = await write(bytesOf('second'));
  const suspects = () => {
    const { sets } = service.node.query({
      owners: [toHex(publicKeyOfSeed(bytesOf('second')))],
      oracles: [publicKeyOfSeed(oracle)],
    });
    return sets.flat().map(({ id, suspectedBy }) => ({ id, suspectedBy }));
  };
  await expect.poll(suspects).toEqual([{ id: second, suspectedBy: [toHex(publicKeyOfSeed(oracle))] }]);
});
