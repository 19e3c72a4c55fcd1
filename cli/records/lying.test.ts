/** A node that lies to who asks it: nothing that it makes up is shown. */

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { genesisOf } from '../../lib/protocol/records/genesis.ts';
import { recordId, withoutValue } from '../../lib/protocol/records/identity.ts';
import { nameKeys } from '../../lib/protocol/records/names.ts';
import { FOUNDER, genesisRecord, MALLORY, write } from '../../lib/protocol/records/network.fixture.ts';
import { encodePartList } from '../../lib/protocol/records/part-list.ts';
import { makePulse, minuteOf } from '../../lib/protocol/records/pulse.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { startDstack } from '../../test/support/cli.ts';
import { Bench } from '../../test/support/records-bench.ts';

vi.setConfig({ testTimeout: 240_000 });

const genesis = genesisRecord({ minLinks: 1, bytesPerSolution: 1 });
const network = toHex(recordId(genesis));
const space = { network: recordId(genesis) };
const page = nameKeys(utf8('page'), space);
const other = nameKeys(utf8('other'), space);
const NOW = Date.now();
const written = (keys: typeof page, ordinal: bigint, value: string, owner = FOUNDER): DagRecord =>
  write(owner, {
    timestamp: NOW,
    links: [recordId(genesis)],
    names: [{ keys, ordinal }],
    value: utf8(value),
  });
const good = written(page, 0n, 'true');

const bench = new Bench();
/** What the node says to each path, if it is not the truth. */
const lies = new Map<string, unknown>();
const asked: string[] = [];
let server: Server;
let url: string;
beforeAll(async () => {
  const status = {
    ...{
      version: 1,
      network,
      name: 'test',
      contact: '',
      comment: '',
      records: 2,
      isPrivate: false,
      isSynchronised: true,
    },
    ...{ lacking: 0, waiting: 0, stopped: null, wire: null, peers: 0 },
  };
  const truth: Record<string, unknown> = {
    '/v1/status': status,
    '/v1/query': answering([[good]]),
    '/v1/links': { time: NOW, links: [network] },
    [`/v1/owner/${toHex(publicKeyOfSeed(FOUNDER))}`]: {
      owner: network,
      isFounder: true,
      isAuthority: false,
      certificates: [],
    },
  };
  server = createServer((request, reply) => {
    const path = request.url!;
    asked.push(path);
    if (path === `/v1/record/raw/${network}`) reply.end(lies.get('genesis') ?? encodeRecord(genesis));
    else if (path.startsWith('/v1/record/raw/')) reply.end(lies.get(path));
    else
      reply
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify(lies.get(path) ?? truth[path] ?? {}));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  vi.stubEnv('DSTACK_RECORDS_NETWORK', network);
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  lies.clear();
  asked.length = 0;
});
afterAll(async () => {
  server.close();
  await bench.close();
});

function answering(sets: readonly (readonly DagRecord[])[], change: object = {}): object {
  const rest = { trust: 1, isCollider: false, isRevoked: false, suspectedBy: [], ...change };
  return {
    isCut: false,
    sets: sets.map((set) =>
      set.map((record) => ({ record: Buffer.from(encodeRecord(record)).toString('base64'), ...rest })),
    ),
  };
}

const get = () => bench.run('reader', 'get', 'page', '--url', url);

test('a node that says the truth is believed', async () => {
  expect(await get()).toMatchObject({ exit: 0, out: 'true | page#0\n' });
});

test.each<[string, string, () => unknown]>([
  [
    'a changed value',
    '/v1/query',
    () => answering([[{ ...good, value: { kind: 'whole', bytes: utf8('false') } }]]),
  ],
  ['another’s signature', '/v1/query', () => answering([[{ ...good, owner: publicKeyOfSeed(MALLORY) }]])],
  ['a record without a permit', '/v1/query', () => answering([[written(page, 0n, 'free', MALLORY)]])],
  ['another name', '/v1/query', () => answering([[written(other, 0n, 'false')]])],
  ['another ordinal', '/v1/query', () => answering([[written(page, 1n, 'false')]])],
  [
    'no record',
    '/v1/query',
    () => ({
      isCut: false,
      sets: [[{ ...{ record: 'AAAA', trust: 1, isCollider: false, isRevoked: false, suspectedBy: [] } }]],
    }),
  ],
  ['trust beyond measure', '/v1/query', () => answering([[good]], { trust: 2 })],
  [
    'another’s pulse',
    '/v1/query',
    () => {
      const { minute, signature } = makePulse(toHex(recordId(good)), minuteOf(NOW), MALLORY);
      return answering([[good]], { pulse: { minute, signature: toHex(signature) } });
    },
  ],
  ['nothing of what was asked', '/v1/query', () => ({})],
  ['another genesis', 'genesis', () => encodeRecord(genesisRecord({ name: 'another' }))],
  ['no genesis', 'genesis', () => Buffer.from('<html>')],
])('a node that lies, by %s, is named', async (_, path, lie) => {
  lies.set(path, lie());
  expect(await get()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
  // By another genesis it would learn under what name is looked, in a network of its own making.
  expect(asked.includes('/v1/query')).toBe(path === '/v1/query');
});

test('a node that gives records of several ordinals as candidates for one is named', async () => {
  const second = written(page, 1n, 'also true');
  const all = () => bench.run('reader', 'get', 'page#', '--url', url);
  lies.set('/v1/query', answering([[good], [second]]));
  expect(await all()).toMatchObject({ exit: 0, out: 'true      | page#0\nalso true | page#1\n' });
  lies.set('/v1/query', answering([[second, good]]));
  expect(await all()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
});

test('who has the secret of a network never asks by names that are not keyed', async () => {
  writeFileSync(bench.path('secret'), 'ab'.repeat(32), { mode: 0o600 });
  const keyed = bench.run('keyed', 'get', 'page', '--url', url, '--secret', bench.path('secret'));
  expect(await keyed).toMatchObject({ exit: 1, code: 'RECORDS_SECRET', out: '' });
});

test('a node that says to have taken another record than it was given is named', async () => {
  await bench.run('reader', 'owner', 'new', 'me');
  lies.set('/v1/post', { id: 'ab'.repeat(32), isNew: true });
  lies.set('/v1/links', { time: NOW, links: ['cd'.repeat(32), network] });
  const { owner } = await bench.json<{ owner: string }>('reader', 'owner', 'new', 'us');
  lies.set(`/v1/owner/${owner}`, {
    ...{ owner, isFounder: false, isAuthority: false },
    certificates: [{ id: 'ef'.repeat(32), authority: owner, serial: '1', notBefore: 0, notAfter: 1 }],
  });
  expect(await bench.run('reader', 'set', 'page', 'x', '--owner', 'us', '--url', url)).toMatchObject({
    exit: 1,
    code: 'RECORDS_ANSWER',
  });
});

test('Ctrl-C ends the work for a record, and nothing is written', async () => {
  const { owner } = await bench.json<{ owner: string }>('worker', 'owner', 'new', 'me');
  lies.set(`/v1/owner/${owner}`, { owner, isFounder: false, isAuthority: false, certificates: [] });
  const there = ['--network', network, '--url', url, '--path', bench.path('worker')];
  const words = ['records', 'set', 'page', 'x'.repeat(900), ...there];
  const { child, text, ended } = startDstack(words);
  await vi.waitFor(() => expect(text()).toMatch(/work: \d+ solutions seen, of about \d{4}/), 180_000);
  child.kill('SIGINT');
  expect(await ended).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('RECORD_WORK_CANCELLED'),
  });
});

test('a node that gives one thing twice, as if nothing contradicted it, is named', async () => {
  const another = written(page, 0n, 'another');
  for (const second of [good, another]) {
    lies.set('/v1/query', answering([[good], [second]]));
    expect(await get()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
  }
  lies.set('/v1/query', answering([[good, good]]));
  expect(await get()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
});

test('a node that gives what is not of the time that was asked for is named', async () => {
  const at = (option: string, time: number) =>
    bench.run('reader', 'get', 'page', '--url', url, option, new Date(time).toISOString());
  expect(await at('--from', NOW - 1)).toMatchObject({ exit: 0 });
  expect(await at('--from', NOW + 1)).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
  expect(await at('--to', NOW - 1)).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
});

test('a node that lies, or is none, keeps no other one from being asked', async () => {
  const none = createServer((_, reply) => reply.end('<html>')).listen(0, '127.0.0.1');
  await once(none, 'listening');
  try {
    const at = `http://127.0.0.1:${(none.address() as AddressInfo).port}`;
    expect(await bench.run('reader', 'get', 'page', '--url', at, '--url', url)).toMatchObject({ exit: 0 });
    expect(await bench.run('reader', 'get', 'page', '--url', at)).toMatchObject({
      exit: 1,
      code: 'HTTP_NOT_JSON',
    });
  } finally {
    none.close();
  }
});

test('a value that the network does not take is refused before any work', async () => {
  const { owner } = await bench.json<{ owner: string }>('big', 'owner', 'new', 'me');
  lies.set(`/v1/owner/${owner}`, { owner, isFounder: false, isAuthority: false, certificates: [] });
  const most = genesisOf(genesis).rules.maxValue;
  const set = bench.run('big', 'set', 'page', 'x'.repeat(most + 1), '--public', '--nowork', '--url', url);
  expect(await set).toMatchObject({ exit: 1, code: 'RECORD_VALUE' });
  expect(asked).not.toContain('/v1/post');
});

test('a file in parts is refused before anything is written if it has too many; of parts that are others nothing is shown', async () => {
  await bench.ok('parts', 'owner', 'new', 'me');
  writeFileSync(bench.path('huge'), Buffer.alloc(28 * 952 + 1, 1));
  const set = bench.run('parts', 'set', 'page', '--file', bench.path('huge'), '--nowork', '--url', url);
  expect(await set).toMatchObject({ exit: 1, code: 'RECORD_VALUE' });
  expect(asked).not.toContain('/v1/post');

  const whole = new Uint8Array(1_000).fill(7);
  const partOf = (value: Uint8Array) => write(FOUNDER, { timestamp: NOW, links: [recordId(genesis)], value });
  const parts = [partOf(whole.slice(0, 952)), partOf(whole.slice(952))];
  const ids = parts.map((part) => toHex(recordId(part)));
  const list = encodePartList({ length: 1_000, hash: sha256(whole), parts: ids });
  const head = write(FOUNDER, {
    timestamp: NOW,
    links: [recordId(genesis)],
    names: [{ keys: page, ordinal: 0n }],
    value: list,
  });
  lies.set('/v1/query', answering([[head]]));
  const raw = () => bench.run('parts', 'get', 'page', '--raw', '--url', url);
  for (const [i, id] of ids.entries()) lies.set(`/v1/record/raw/${id}`, encodeRecord(parts[i]!));
  expect(await raw()).toMatchObject({ exit: 0, out: Buffer.from(whole).toString() });
  lies.set(`/v1/record/raw/${ids[1]}`, encodeRecord(partOf(new Uint8Array(48).fill(8))));
  expect(await raw()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
  lies.set(`/v1/record/raw/${ids[1]}`, encodeRecord(withoutValue(parts[1]!)));
  expect(await raw()).toMatchObject({ exit: 1, code: 'RECORDS_NO_RECORD', out: '' });
  lies.set(`/v1/record/raw/${ids[1]}`, Buffer.from('no record'));
  expect(await raw()).toMatchObject({ exit: 1, code: 'RECORDS_ANSWER', out: '' });
});

test('the token goes to no program that has taken the place of a node that was killed', async () => {
  const tokens: (string | undefined)[] = [];
  const thief = createServer(({ headers }, reply) => {
    tokens.push(headers.authorization);
    reply.end('{}');
  }).listen(0, '127.0.0.1');
  await once(thief, 'listening');
  try {
    const node = bench.path('killed/node');
    mkdirSync(node, { recursive: true });
    const at = `http://127.0.0.1:${(thief.address() as AddressInfo).port}`;
    const { pid } = spawnSync('true');
    writeFileSync(`${node}/running.json`, JSON.stringify({ pid, network, url: at }));
    expect(await bench.run('killed', 'node', 'status')).toMatchObject({ exit: 1, code: 'RECORDS_NO_NODE' });
    const connect = bench.run('killed', 'node', 'connect', '127.0.0.1:9908', 'ab'.repeat(32));
    expect(await connect).toMatchObject({ exit: 1, code: 'RECORDS_NO_NODE' });
    expect(tokens).toEqual([]);
  } finally {
    thief.close();
  }
});

test('a node of another network than is meant is not asked, and the folder stays without one', async () => {
  vi.stubEnv('DSTACK_RECORDS_NETWORK', undefined);
  asked.length = 0;
  expect(await bench.run('default', 'get', 'page', '--url', url)).toMatchObject({
    ...{ exit: 1, code: 'RECORDS_NETWORK_OTHER', out: '' },
  });
  expect(asked).toEqual(['/v1/status']);
  expect(await bench.run('default', 'get', 'page', '--url', url, '--network', 'ab'.repeat(32))).toMatchObject(
    {
      code: 'RECORDS_NETWORK_OTHER',
    },
  );
  expect(await bench.run('default', 'get', 'page', '--url', url, '--network', network)).toMatchObject({
    ...{ exit: 0, out: 'true | page#0\n' },
  });
  vi.stubEnv('DSTACK_RECORDS_NETWORK', network);
});
