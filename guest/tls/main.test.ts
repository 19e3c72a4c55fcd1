import { type ChildProcess, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { p256 } from '@noble/curves/nist.js';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import type { Upstreams } from '../../lib/protocol/sockets.ts';
import { end, frontBelow, listenOn, startHaproxy } from '../../test/support/front.ts';
import type { FrontDescription } from './front-config.ts';

const KEY = '77'.repeat(32);
const PATIENCE = { timeout: 120_000, interval: 100 };
const root = mkdtempSync(join(tmpdir(), 'dstack-tls-'));
const servers: Server[] = [];
let description: FrontDescription;
let daemon: ChildProcess;
let haproxy: ChildProcess | undefined;
let said = '';
const nowhere = (reason: string): Upstreams => ({ website: { reason }, sites: [] });
const at = (port: number): Upstreams['website'] => ({
  upstream: { app: 'greeting', host: '127.0.0.1', port, protocol: 'http1' },
});
let upstream: () => Upstreams = () => nowhere('greeting: ARCHIVE_MISSING');
/** What the driver has said each time that it asked. */
const told: (string | undefined)[] = [];
/** Lets the node join. */
let release: () => void = () => {};

beforeAll(async () => {
  for (const folder of ['run/dstack/replicator', 'run/dstack/kubernethes', 'usr/lib/dstack']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  const network = {
    version: 1,
    chainId: 31337,
    contract: `0x${'c0'.repeat(20)}`,
    confirmation: { depth: 0 },
    endpoints: ['http://127.0.0.1:1'],
    quorum: 1,
  };
  writeFileSync(join(root, 'run/dstack/network.json'), JSON.stringify(network));
  const builtAt = Math.floor(Date.now() / 1000);
  writeFileSync(
    join(root, 'usr/lib/dstack/flavour.json'),
    JSON.stringify({ version: 1, flavour: 'sim', builtAt }),
  );
  description = await frontBelow(root);
  const joined = new Promise<void>((resolve) => {
    release = resolve;
  });
  startDaemon();
  // The replicator's socket appears late, and holds the answer back until the node has joined.
  servers.push(
    await serveUnix({
      path: join(root, 'run/dstack/replicator/tls.sock'),
      routes: { 'GET /v1/tls-key': () => joined.then(() => ({ epoch: 4, privateKey: KEY })) },
    }),
    await serveUnix({
      path: join(root, 'run/dstack/kubernethes/tls.sock'),
      routes: {
        'POST /v1/upstream': (body) => {
          told.push((body as { done?: string }).done);
          return { turn: `${'0'.repeat(16)}-${told.length}`, ...upstream() };
        },
      },
    }),
  );
});

afterAll(async () => {
  await end(daemon);
  if (haproxy !== undefined) await end(haproxy);
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  rmSync(root, { recursive: true });
});

function startDaemon(): void {
  daemon = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), '--root', root]);
  for (const stream of [daemon.stdout!, daemon.stderr!]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk;
    });
  }
}

const visit = (servername?: string): Promise<string> =>
  new Promise((resolve) => {
    const { port } = description.listen;
    const name = servername === undefined ? {} : { servername, headers: { host: servername } };
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, agent: false, ...name };
    request(options, (response) => {
      text(response).then(
        (body) => resolve(`${response.statusCode} ${body}`),
        () => resolve('broken off'),
      );
    })
      .on('error', (error) => resolve(error.message))
      .end();
  });

test('nothing is there for a front to start with until the node has joined', async () => {
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(existsSync(description.placeholder)).toBe(false);
  release();
  await vi.waitFor(() => expect(existsSync(description.placeholder)).toBe(true), PATIENCE);
  expect(statSync(description.placeholder).mode & 0o777).toBe(0o640);
});

test("the front opens with the site's key, and says why there is no app", async () => {
  haproxy = await startHaproxy(description);
  await vi.waitFor(
    async () => expect(await visit()).toMatch(/^503 [\s\S]*greeting: ARCHIVE_MISSING/),
    PATIENCE,
  );
  expect(said).toContain('"epoch":4');
  expect(said).toContain('"msg":"listening"');
});

test('requests follow what kubernethes says', async () => {
  const app = createServer((_req, res) => res.end('the app'));
  servers.push(app);
  const port = await listenOn(app);
  upstream = () => ({ website: at(port), sites: [] });
  await vi.waitFor(async () => expect(await visit()).toBe('200 the app'), PATIENCE);
  // It says which answer the front is like, once it is: the first one that led here, or a later one.
  const ledHere = told.length;
  await vi.waitFor(() => expect(told.length).toBeGreaterThan(ledHere + 1), PATIENCE);
  expect(Number(told.at(-1)!.split('-')[1])).toBeGreaterThanOrEqual(ledHere);
  const lines = said.length;
  upstream = () => nowhere('greeting is being replaced');
  await vi.waitFor(
    async () => expect(await visit()).toMatch(/^503 [\s\S]*greeting is being replaced/),
    PATIENCE,
  );
  // Strangers cannot fill the log, nor does time.
  for (let i = 0; i < 5; i++) await visit();
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(said.slice(lines).match(/greeting is being replaced/g)).toHaveLength(1);
  upstream = () => ({ website: at(port), sites: [] });
  await vi.waitFor(async () => expect(await visit()).toBe('200 the app'), PATIENCE);
});

test("a site that waits says why, by itself; kubernethes' absence changes nothing for a while", async () => {
  const shop = createServer((_req, res) => res.end('the shop'));
  servers.push(shop);
  const before = upstream;
  const { website } = upstream();
  const waiting = { domain: 'shop.example', reason: 'shop: ARCHIVE_MISSING' };
  upstream = () => ({ website, sites: [waiting] });
  await vi.waitFor(
    async () => expect(await visit('shop.example')).toMatch(/^503 [\s\S]*shop: ARCHIVE_MISSING/),
    PATIENCE,
  );
  expect(await visit()).toBe('200 the app');
  const led = { ...at(await listenOn(shop)), domain: 'shop.example' };
  upstream = () => ({ website, sites: [led] });
  await vi.waitFor(async () => expect(await visit('shop.example')).toBe('200 the shop'), PATIENCE);
  expect(await visit()).toBe('200 the app');
  let asked = 0;
  upstream = () => {
    asked += 1;
    throw new Error('away');
  };
  // It is asked again and again, and answers nothing: visitors are led as before.
  const calls = asked;
  await vi.waitFor(() => expect(asked).toBeGreaterThan(calls + 2), PATIENCE);
  expect(await visit('shop.example')).toBe('200 the shop');
  expect(await visit()).toBe('200 the app');
  upstream = () => ({ website, sites: [waiting] });
  await vi.waitFor(
    async () => expect(await visit('shop.example')).toMatch(/^503 [\s\S]*shop: ARCHIVE_MISSING/),
    PATIENCE,
  );
  expect(await visit()).toBe('200 the app');
  upstream = before;
  await vi.waitFor(async () => expect(await visit('shop.example')).toBe('200 the app'), PATIENCE);
});

test('a front that cannot be told anything is not said to be like it', async () => {
  await end(haproxy!);
  const [before, upstreamBefore] = [told.length, upstream];
  upstream = () => ({ website: at(9), sites: [] });
  await vi.waitFor(() => expect(told.length).toBeGreaterThan(before + 3), PATIENCE);
  for (const turn of told.slice(before + 2))
    expect(Number(turn!.split('-')[1])).toBeLessThanOrEqual(before + 1);
  upstream = upstreamBefore;
});

test('a front that died gets all of it again', async () => {
  await end(haproxy!);
  haproxy = await startHaproxy(description);
  await vi.waitFor(async () => expect(await visit()).toBe('200 the app'), PATIENCE);
});

test('a driver that died is missed by nobody, and its successor changes nothing', async () => {
  await end(daemon);
  expect(await visit()).toBe('200 the app');
  said = '';
  startDaemon();
  await vi.waitFor(() => expect(said).toContain("has the site's key"), PATIENCE);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(said).not.toContain('listening');
  expect(await visit()).toBe('200 the app');
});

test('the key is in no file, log or argument', () => {
  const places = [
    said,
    readFileSync(description.placeholder, 'utf8'),
    ...[daemon, haproxy!].flatMap(({ pid }) =>
      ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8')),
    ),
  ];
  const forms = [KEY, Buffer.from(KEY, 'hex').toString('base64').slice(0, 40)];
  for (const place of places) for (const form of forms) expect(place).not.toContain(form);
  // In PEM the key would be among other bytes: it is another one.
  const { x } = new X509Certificate(readFileSync(description.placeholder)).publicKey.export({
    format: 'jwk',
  });
  const site = p256.getPublicKey(Buffer.from(KEY, 'hex'), false).subarray(1, 33);
  expect(x).not.toBe(Buffer.from(site).toString('base64url'));
});
