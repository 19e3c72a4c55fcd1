import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { Archive } from './archive.ts';
import { adminServer } from './server.ts';

test('an open connection that asks nothing does not hold up the end', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'server-test-'));
  const app = adminServer({
    services: [
      {
        contract: parseAddress(`0x${'00'.repeat(20)}`),
        archive: new Archive(folder),
        measure: () => {},
        status: () => ({}),
        unhealthy: () => undefined,
      },
    ],
    metrics: new Metrics(),
    log: { warn: () => {} },
    hostName: '127.0.0.1',
  });
  try {
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as { port: number };
    // Node itself would cut it off after a while.
    Object.assign(app.server, { headersTimeout: 0, requestTimeout: 0 });
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    // It is cut off; how does not matter.
    socket.on('error', () => {});
    const cut = new Promise((resolve) => socket.once('close', resolve));
    socket.write('GET /healthz HTTP/1.1\r\nHost: x');
    const begin = performance.now();
    await Promise.all([app.close(), cut]);
    expect(performance.now() - begin).toBeLessThan(60_000);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a network.json is kept byte for byte under its hash, and served; other names are not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'server-test-'));
  try {
    const archive = new Archive(folder);
    const bytes = Buffer.from('{ "odd":   "spacing, no newline" }');
    const path = archive.keepConfig(bytes);
    const name = path.split('/').at(-1)!;
    expect(name).toBe('config-6c6ebf7574864c4054816d5047999ac4300ac6416631e791842ea6410296ca94.json');
    expect(archive.read(name)).toBe(bytes.toString());
    expect(archive.list('config-')).toEqual([name]);
    for (const other of ['config-00.json', `../${name}`, `${name}.new`, 'relay.sqlite']) {
      expect(archive.read(other)).toBeUndefined();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the admin port answers to addresses and its own name, to no name that a web page could have', async () => {
  const app = adminServer({
    services: [],
    metrics: new Metrics(),
    log: { warn: () => {} },
    hostName: 'relay.lan',
  });
  const ask = async (host: string, url = '/metrics') =>
    (await app.inject({ method: 'GET', url, headers: { host } })).statusCode;
  for (const host of [
    '127.0.0.1:7611',
    '127.0.0.1',
    '[::1]:7611',
    'localhost:7611',
    'LOCALHOST',
    '10.0.0.5',
    'relay.lan:7611',
  ]) {
    expect(await ask(host), host).toBe(200);
  }
  for (const host of [
    'evil.example',
    'evil.example:7611',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    'a b',
    '[::1',
    'evil@127.0.0.1/',
    'relay.lan.evil.example',
  ]) {
    for (const url of ['/metrics', '/v1/status', '/healthz', '/v1/records', '/nothing']) {
      expect(await ask(host, url), `${host} ${url}`).toBe(403);
    }
  }
});

test('what is refused before there is a request has a code too, and a body is JSON', async () => {
  const app = adminServer({
    services: [],
    metrics: new Metrics(),
    log: { warn: () => {} },
    hostName: 'relay.lan',
  });
  app.post('/asks', async () => 'taken');
  const headers = { host: 'localhost' };
  const malformed = await app.inject({ url: '/%zz', headers });
  expect(malformed.statusCode).toBe(400);
  expect(malformed.json()).toMatchObject({ code: 'HTTP_REQUEST' });
  const text = { url: '/asks', method: 'POST', payload: '{}' } as const;
  const plain = await app.inject({ ...text, headers: { ...headers, 'content-type': 'text/plain' } });
  expect([plain.statusCode, plain.json().code]).toEqual([415, 'HTTP_REQUEST']);
  const sent = await app.inject({ ...text, headers: { ...headers, 'content-type': 'application/json' } });
  expect([sent.statusCode, sent.body]).toEqual([200, 'taken']);
  await app.close();
});
