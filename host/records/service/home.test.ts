import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { FOUNDER, rulesOf } from '../../../lib/protocol/records/network.fixture.ts';
import { bytesOf } from '../../../lib/protocol/records/records.fixture.ts';
import { makeGenesis, parseGenesis } from './genesis-file.ts';
import {
  createHome,
  identityOf,
  keepPeer,
  MOST_PEERS,
  peersOf,
  requireOwnDisk,
  requireSameSecret,
  secretOf,
  tokenOf,
} from './home.ts';

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-records-home-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const codeFrom = (act: () => unknown): string => {
  try {
    act();
    return 'done';
  } catch (error) {
    return codeOf(error);
  }
};
test('a folder on another machine is none for records', () => {
  const folder = freshFolder();
  expect(codeFrom(() => requireOwnDisk(folder))).toBe('done');
  // NFS, SMB2 (whose number is negative as a signed one).
  for (const type of [0x6969, 0xfe534d42 | 0])
    expect(codeFrom(() => requireOwnDisk(folder, type))).toBe('RECORDS_SHARE');
});

const GENESIS = makeGenesis(rulesOf({ minLinks: 3 }), FOUNDER, 1_000);

test('keys are made once, whole, and for their user alone; what is there is never written over', () => {
  const folder = freshFolder();
  const key = toHex(identityOf(folder).publicKey);
  const token = tokenOf(folder);
  expect([toHex(identityOf(folder).publicKey), tokenOf(folder)]).toEqual([key, token]);
  for (const file of ['identity', 'authtoken']) expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder).toSorted()).toEqual(['authtoken', 'identity']);
  writeFileSync(join(folder, 'identity'), 'something else');
  expect(codeFrom(() => identityOf(folder))).toBe('KEY_FILE');
  expect(readFileSync(join(folder, 'identity'), 'utf8')).toBe('something else');
});

test('a key that others can read, or that is a link, is used by nobody', () => {
  const folder = freshFolder();
  tokenOf(folder);
  chmodSync(join(folder, 'authtoken'), 0o640);
  expect(codeFrom(() => tokenOf(folder))).toBe('KEY_FILE');
  writeFileSync(join(folder, 'elsewhere'), '00'.repeat(32), { mode: 0o600 });
  symlinkSync('elsewhere', join(folder, 'identity'));
  expect(codeFrom(() => identityOf(folder))).toBe('KEY_FILE');
});

test('a private network’s secret is there before its records, and is never another', () => {
  const folder = freshFolder();
  createHome(folder, GENESIS, bytesOf('secret'));
  expect(secretOf(folder)).toEqual(bytesOf('secret'));
  expect(codeFrom(() => requireSameSecret(folder, bytesOf('other')))).toBe('RECORDS_SECRET');
  expect(codeFrom(() => createHome(folder, GENESIS, bytesOf('other')))).toBe('RECORDS_SECRET');
  expect(codeFrom(() => createHome(folder, GENESIS, bytesOf('secret')))).toBe('RECORDS_EXISTS');
});

test('peers are kept by their key, so many and no more, and none that is no address', () => {
  const folder = freshFolder();
  const peer = (n: number, host = '192.0.2.1') => ({
    host,
    port: 9_000 + n,
    key: toHex(bytesOf(`peer ${n}`)),
  });
  for (let n = 0; n < MOST_PEERS; n++) keepPeer(folder, peer(n));
  keepPeer(folder, peer(3, 'example.org'));
  expect(peersOf(folder)).toHaveLength(MOST_PEERS);
  expect(peersOf(folder).at(-1)).toEqual(peer(3, 'example.org'));
  expect(codeFrom(() => keepPeer(folder, peer(MOST_PEERS)))).toBe('RECORDS_PEERS');
  // None with which the node could not start again.
  for (const host of ['..', ':', '1.2.3', 'a..b'])
    expect(codeFrom(() => keepPeer(folder, peer(0, host)))).toBe('WIRE_ADDRESS');
  expect(peersOf(folder)).toHaveLength(MOST_PEERS);
  writeFileSync(join(folder, 'peers.json'), JSON.stringify({ version: 1, peers: [peer(0, '..')] }));
  expect(codeFrom(() => peersOf(folder))).toBe('RECORDS_PEERS');
  writeFileSync(join(folder, 'peers.json'), '{"version":1,"peers":[{"host":"a b","port":1,"key":"00"}]}');
  expect(codeFrom(() => peersOf(folder))).toBe('RECORDS_PEERS');
});

test('a genesis has what the first record of anybody else links to', () => {
  const { genesis, records } = parseGenesis(GENESIS);
  expect([genesis.rules.minLinks, records.length]).toEqual([3, 3]);
  // A node gives its genesis alone.
  expect(parseGenesis(records[0]!).genesis).toEqual(genesis);
});

test.each([
  ['nothing', new Uint8Array()],
  ['its beginning', GENESIS.subarray(0, 100)],
  ['more behind it', Buffer.concat([GENESIS, Uint8Array.of(0)])],
  ['another network’s record', Buffer.concat([GENESIS, makeGenesis(rulesOf({ name: 'x' }), FOUNDER, 1_000)])],
  ['a length of everything', Uint8Array.of(0, 255, 255, 255, 1)],
  ['changed', GENESIS.with(GENESIS.length - 1, GENESIS.at(-1)! ^ 1)],
])('a file with %s is no genesis', (_, bytes) => {
  expect(codeFrom(() => parseGenesis(bytes))).toBe('RECORDS_GENESIS');
});
