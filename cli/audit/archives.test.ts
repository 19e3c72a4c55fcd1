/** Sources of public files that do whatever a stranger may: each is told of, and none of them is in another's way. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fastify, { type FastifyReply } from 'fastify';
import { pack } from 'tar-stream';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Archive } from '../../host/relay/archive.ts';
import { archiveRoutes } from '../../host/relay/archive-routes.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import { type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { KEM_PUBLIC_KEY_BYTES } from '../../lib/protocol/sealing.ts';
import { readRecords as readInto, type SourceLimits } from './archives.ts';
import type { FoundRecord } from './record.ts';

const config = utf8('{"a":"network.json"}');
const configName = `config-${toHex(configHash(config))}.json`;
/** A request that differs from another only in what nobody signed. */
const request = (quote = '00'): RequestMessage => ({
  type: 'request',
  chainId: 1,
  contract: parseAddress(`0x${'11'.repeat(20)}`),
  node: parseAddress(`0x${'22'.repeat(20)}`),
  kemPublicKey: parseHex('33'.repeat(KEM_PUBLIC_KEY_BYTES)),
  config: parseHex('44'.repeat(32)),
  epoch: 1,
  blockNumber: 1,
  blockHash: parseHex('55'.repeat(32)),
  quote: parseHex(quote),
  quoteHash: parseHex('66'.repeat(32)),
  signature: { r: parseHex(`0x${'77'.repeat(32)}`), vs: parseHex(`0x${'88'.repeat(32)}`) },
});
const requestHash = toHex(requestOf(request()).hash);
const requestName = (at: number) => `request-${requestHash}-${String(at).padStart(16, '0')}.json`;

const TIMELESS = /no reply from/;
let good: string;
const servers: Server[] = [];
beforeAll(() => {
  good = mkdtempSync(join(tmpdir(), 'dstack-records-'));
  writeFileSync(join(good, configName), config);
  writeFileSync(join(good, requestName(0)), JSON.stringify(request()));
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});
afterAll(() => rmSync(good, { recursive: true, force: true }));

type Handler = (path: string, response: ServerResponse, request: IncomingMessage) => void;
async function serve(handler: Handler): Promise<string> {
  const server = createServer((incoming, response) => handler(incoming.url ?? '', response, incoming));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
/** A relay that has these files; `spoil` answers instead when it returns true. */
const relayOf = (files: Record<string, Uint8Array | string>, spoil: Handler | undefined = undefined) =>
  serve((path, response, incoming) => {
    const before = response.writableEnded;
    spoil?.(path, response, incoming);
    if (response.writableEnded !== before || response.headersSent || response.destroyed) return;
    const url = new URL(path, 'http://relay');
    const after = url.searchParams.get('after');
    if (after !== null) {
      const records = Object.keys(files).filter((name) => name > after);
      response.end(JSON.stringify({ records: records.sort().slice(0, 1000) }));
    } else response.end(files[decodeURIComponent(url.pathname.split('/').at(-1)!)]);
  });
const files = () => ({ [configName]: config, [requestName(0)]: JSON.stringify(request()) });

const NETWORK = { chainId: 1, contract: parseAddress(`0x${'1'.repeat(40)}`) };

/** An audit that asks for whatever there is. */
async function readRecords(sources: readonly string[], limits: Partial<SourceLimits> = {}) {
  const requests = new Map<string, RequestMessage[]>();
  const configs = new Map<string, Uint8Array>();
  const taker = {
    skips: () => false,
    wants: () => true,
    take(record: FoundRecord) {
      if (record.kind === 'config') configs.set(record.subject, record.bytes);
      if (record.kind !== 'request') return;
      requests.set(record.subject, [...(requests.get(record.subject) ?? []), record.message]);
    },
  };
  return { sources: await readInto(sources, taker, NETWORK, limits), requests, configs };
}

/** Reads a hostile source before and beside a good one: what the good one has must be there. */
async function besideGood(source: string, limits: Partial<SourceLimits> = {}) {
  const records = await readRecords([source, good], { milliseconds: 5_000, ...limits });
  expect(records.requests.get(requestHash)).toContainEqual(request());
  expect([...records.configs.values()].map((bytes) => Buffer.from(bytes).toString())).toContain(
    Buffer.from(config).toString(),
  );
  expect(records.sources[1]).toMatchObject({ source: good, records: 2, faultCount: 0 });
  return { ...records, hostile: records.sources[0]! };
}

test('what a relay and a folder have is taken, and neither has a fault', async () => {
  const { hostile, requests } = await besideGood(await relayOf(files()));
  expect(hostile).toMatchObject({ records: 2, faultCount: 0, faults: [] });
  expect(requests.get(requestHash)).toHaveLength(1);
});

describe('a source of which one file', () => {
  test.each<[string, Handler, RegExp]>([
    ['is HTTP 500', (_, response) => response.writeHead(500).end('no'), /HTTP 500/],
    [
      'is somewhere else',
      (_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      /no reply from/,
    ],
    [
      'is a page for people',
      (_, response) => response.setHeader('content-type', 'text/html').end('<html>'),
      /JSON/,
    ],
    ['never ends', (_, response) => response.write('{'), TIMELESS],
    ['hangs up', (_, response) => response.destroy(), /no reply from/],
    ['is huge', (_, response) => response.end(Buffer.alloc(4 * 1024 * 1024, 0x20)), /more than \d+ bytes/],
    [
      'is huge once it is unpacked',
      (_, response) =>
        response.setHeader('content-encoding', 'gzip').end(gzipSync(Buffer.alloc(4 * 1024 * 1024, 0x20))),
      /more than \d+ bytes/,
    ],
    ['is of another form', (_, response) => response.end('{"type":"request"}'), /malformed/],
  ])('%s is read all the same', async (_, spoil, fault) => {
    // It comes first, and more come after it than are asked for at a time.
    const spoiled = 'answer-0.json';
    const after = Object.fromEntries(
      Array.from({ length: 20 }, (_, at) => [requestName(at + 1), JSON.stringify(request())]),
    );
    const url = await relayOf({ ...files(), ...after, [spoiled]: '' }, (path, ...rest) => {
      if (path.includes(`/${spoiled}`)) spoil(path, ...rest);
    });
    const { hostile } = await besideGood(url);
    if (fault !== TIMELESS) expect(hostile.records).toBe(23);
    // One that never ends takes all of the source's time.
    expect(hostile.faultCount).toBe(fault === TIMELESS ? 2 : 1);
    expect(hostile.faults[0]).toMatch(fault);
    expect(hostile.faults[0]).toContain(spoiled);
  });

  test('has the wrong content type and the right bytes counts by its bytes', async () => {
    const url = await relayOf(files(), (path, response) => {
      if (!path.includes('after')) response.setHeader('content-type', 'text/html');
    });
    const records = await readRecords([url]);
    expect(records.sources[0]).toMatchObject({ records: 2, faultCount: 0 });
    expect(records.requests.size).toBe(1);
  });
});

describe('a source whose list', () => {
  test.each<[string, Handler, RegExp]>([
    ['is HTTP 500', (_, response) => response.writeHead(500).end('no'), /HTTP 500/],
    ['is somewhere else', (_, response) => response.writeHead(307, { location: '/x' }).end(), /no reply/],
    ['is a page for people', (_, response) => response.end('<html>'), /JSON/],
    ['is huge', (_, response) => response.end(' '.repeat(1024 * 1024)), /more than \d+ bytes/],
    ['never comes', () => {}, /no reply from/],
    ['comes slowly', (_, response) => void setInterval(() => response.write(' '), 100).unref(), /no reply/],
    ['stands still', (_, response) => response.end('{"records":["a","a"]}'), /does not continue/],
  ])('%s', async (_, spoil, fault) => {
    const { hostile } = await besideGood(await serve(spoil), { milliseconds: 1_000 });
    expect(hostile.faults.join()).toMatch(fault);
  });

  test('never ends', async () => {
    let listed = 0;
    const url = await serve((path, response) => {
      if (!path.includes('after')) return response.end('{}');
      listed += 1000;
      const records = Array.from({ length: 1000 }, (_, at) => String(listed + at).padStart(12, '0'));
      return response.end(JSON.stringify({ records }));
    });
    const { hostile } = await besideGood(url, { records: 5_000 });
    expect(hostile.records).toBe(5_000);
    expect(hostile.faults).toEqual([expect.stringContaining('more than 5000 files')]);
  });
});

describe('a relay that gives bundles', () => {
  /** Many different requests, as a real archive has them. */
  const recordsOf = (count: number) =>
    Array.from({ length: count }, (_, n): [string, string] => [
      requestName(n),
      JSON.stringify({ ...request(), epoch: n + 2 }),
    ]);
  async function archiveOf(count: number, spoil?: (asked: string, reply: FastifyReply) => unknown) {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-records-'));
    for (const [name, text] of recordsOf(count)) writeFileSync(join(folder, name), text);
    const app = fastify({ forceCloseConnections: true });
    let asked = 0;
    app.addHook('onRequest', async ({ url }, reply) => {
      asked += 1;
      return spoil?.(url, reply);
    });
    archiveRoutes(app, new Archive(folder));
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    after.push(async () => {
      await app.close();
      rmSync(folder, { recursive: true, force: true });
    });
    return { url, asked: () => asked };
  }
  const after: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of after.splice(0)) await end();
  });

  test('is asked for many records at a time, and has all of them', async () => {
    const { url, asked } = await archiveOf(1_100);
    // What an audit asks for is no part of the source's share.
    const { sources, requests } = await readRecords([url], { records: 10, bytes: 1_000 });
    expect(sources[0]).toMatchObject({ records: 1_100, faults: [] });
    expect(requests.size).toBe(1_100);
    // Three lists, and some eight bundles.
    expect(asked()).toBeLessThan(20);
  });

  test('is asked one by one for the few that an audit has not read', async () => {
    const { url, asked } = await archiveOf(100);
    const found: string[] = [];
    const taker = {
      skips: (name: string) => name >= requestName(10),
      wants: () => true,
      take: ({ subject }: FoundRecord) => void found.push(subject),
    };
    const [source] = await readInto([url], taker, NETWORK);
    expect(found).toHaveLength(10);
    expect(source).toMatchObject({ records: 10, faults: [] });
    expect(asked()).toBe(2 + 10);
  });

  const tar = (entries: [string, string][]) => {
    const out = pack();
    for (const [name, text] of entries) out.entry({ name }, text);
    out.finalize();
    return out.read() as Buffer;
  };
  const [first, second] = recordsOf(2) as [[string, string], [string, string]];
  test.each<[string, (asked: string) => Buffer | string]>([
    ['of before bundles', () => JSON.stringify({ records: [] })],
    ['with garbage', () => 'x'.repeat(4096)],
    ['cut off', () => tar([first, second]).subarray(0, 1500)],
    ['out of order', () => tar([second, first])],
    ['of the same file for ever', () => tar([first])],
    ['of files that nobody listed', () => tar([['a', '{}']])],
    ['without end', () => Buffer.alloc(5 * 1024 * 1024)],
    ['empty', () => tar([])],
  ])('%s, has its records asked for one by one', async (_, bundle) => {
    const { url } = await archiveOf(40, (asked, reply) =>
      asked.includes('?bundle=') ? reply.type('application/x-tar').send(bundle(asked)) : undefined,
    );
    const { sources, requests } = await readRecords([url]);
    expect(requests.size).toBe(40);
    expect(sources[0]).toMatchObject({ records: 40, faults: [] });
  });

  test('whose bundles never come has no more than its time', async () => {
    const { url } = await archiveOf(40, (asked) =>
      asked.includes('?bundle=') ? new Promise(() => {}) : undefined,
    );
    const { hostile } = await besideGood(url, { milliseconds: 1_000 });
    expect(hostile.faults).toEqual([expect.stringContaining('no reply from')]);
  });
});

test('one file under 3,000 names is kept once', async () => {
  const text = JSON.stringify(request('ab'.repeat(8_000)));
  const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, at) => [requestName(at), text]));
  const { hostile, requests } = await besideGood(await relayOf(many), { milliseconds: 600_000 });
  expect(hostile).toMatchObject({ records: 3_000, faultCount: 0 });
  expect(requests.get(requestHash)).toHaveLength(2);
});

test('of 3,000 versions of one request a few are kept, and the good one of another source', async () => {
  const many = Object.fromEntries(
    Array.from({ length: 3_000 }, (_, at) => [
      requestName(at),
      JSON.stringify(request(String(at).padStart(4, '0'))),
    ]),
  );
  const { hostile, requests } = await besideGood(await relayOf(many), { milliseconds: 600_000 });
  expect(hostile.faultCount).toBe(3_000 - 16);
  expect(hostile.faults.length).toBe(10);
  expect(requests.get(requestHash)).toHaveLength(17);
});

test('a source is not read beyond its share of bytes', async () => {
  const text = JSON.stringify(request('ab'.repeat(8_000)));
  const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, at) => [requestName(at), text]));
  const { hostile } = await besideGood(await relayOf(many), { bytes: 200_000, versions: 1 });
  expect(hostile.bytes).toBeLessThan(600_000);
  expect(hostile.faults).toEqual([expect.stringContaining('more than 200000 bytes')]);
});

test('a source is not read beyond its time, and the others are not kept waiting', async () => {
  const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, at) => [requestName(at), '{}']));
  const slow = await relayOf(many, (path, response) => {
    if (!path.includes('after')) {
      response.flushHeaders();
      setTimeout(() => response.end('{}'), 400);
    }
  });
  const begin = performance.now();
  const { hostile } = await besideGood(slow, { milliseconds: 1_500 });
  expect(performance.now() - begin).toBeLessThan(120_000);
  expect(hostile.faults.length).toBeGreaterThan(0);
  expect(hostile.records).toBeLessThan(1_000);
});

test('a relay that wants fewer requests is waited for, as long as it says; nothing of it is missing', async () => {
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, at) => [requestName(at), JSON.stringify(request())]),
  );
  let tokens = 130;
  let refused = 0;
  const url = await relayOf({ ...files(), ...many }, (_, response) => {
    tokens -= 1;
    if (tokens >= 0) return;
    refused += 1;
    // The time that it names, a date, none.
    const after = ['0', new Date().toUTCString()][refused % 3];
    if (after !== undefined) response.setHeader('retry-after', after);
    response.writeHead(429).end();
    if (refused % 10 === 0) tokens = 60;
  });
  const { sources } = await readRecords([url], { milliseconds: 600_000 });
  expect(sources[0]).toMatchObject({ records: 301, faults: [] });
  expect(refused).toBeGreaterThan(0);
});

test('one that wants none at all, for an hour, has no more than its time', async () => {
  const url = await serve((_, response) => response.writeHead(429, { 'retry-after': '3600' }).end());
  const { hostile } = await besideGood(url, { milliseconds: 2_000 });
  expect(hostile.faults).toEqual([expect.stringContaining('HTTP 429')]);
});

describe('a folder', () => {
  test('that is not there is a fault of its own', async () => {
    const { hostile } = await besideGood(join(good, 'nothing'));
    expect(hostile.faults).toEqual([expect.stringContaining('ENOENT')]);
  });

  test('with what is no file, or endless, or huge', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-records-'));
    mkdirSync(join(folder, requestName(1)));
    symlinkSync('/dev/zero', join(folder, requestName(2)));
    symlinkSync('/nowhere', join(folder, requestName(3)));
    writeFileSync(join(folder, requestName(4)), Buffer.alloc(3 * 1024 * 1024));
    writeFileSync(join(folder, 'other.json'), '{}');
    const { hostile } = await besideGood(folder);
    rmSync(folder, { recursive: true, force: true });
    expect(hostile).toMatchObject({ records: 4, faultCount: 4 });
  });
});

test("a password in a source's URL is not told", async () => {
  const records = await readRecords(['http://me:secret@127.0.0.1:1/']);
  expect(JSON.stringify(records.sources)).not.toContain('secret');
  expect(records.sources[0]!.faultCount).toBe(1);
});
