import { readdirSync, readFileSync } from 'node:fs';
import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { check } from '../../lib/protocol/schema.ts';
import { adminServer } from '../relay/server.ts';
import { Dashboard } from './dashboard.ts';
import { LogTail } from './log-tail.ts';
import { FakeNetwork } from './source.fixture.ts';
import { DashboardStateSchema } from './state.ts';
import { STREAM_LIMITS, type StreamLimits } from './streams.ts';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** On the relay's own admin server, with its limits of connections. */
async function start(limits: Partial<StreamLimits> = {}) {
  const network = new FakeNetwork();
  const tail = new LogTail((text) => text);
  const dashboard = new Dashboard({
    networks: [network],
    tail,
    limits: { ...STREAM_LIMITS, ...limits },
  });
  const app = adminServer({
    services: [],
    metrics: new Metrics(),
    log: { warn: () => {} },
    hostName: '127.0.0.1',
    dashboard,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  cleanups.push(async () => {
    dashboard.close();
    await app.close();
  });
  const url = `http://127.0.0.1:${port}/dashboard`;
  return { network, tail, dashboard, app, url };
}

/** A reader of the stream, and what it was sent so far. */
async function follow(
  url: string,
): Promise<{ request: ClientRequest; reply: IncomingMessage; said: () => string }> {
  let said = '';
  const request = get(`${url}/events`, { agent: false });
  request.on('error', () => {});
  const reply = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  reply.on('error', () => {});
  reply.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  cleanups.push(async () => void request.destroy());
  return { request, reply, said: () => said };
}

/** But for the signs of life. */
const framesOf = (said: string) =>
  [...said.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)]
    .filter(([, event]) => event !== 'beat')
    .map(([, event, data]) => ({ event, data: JSON.parse(data!) }));

test('the state has the form that is documented, and the stream begins with it', async () => {
  const { url, tail, network } = await start();
  tail.write(JSON.stringify({ level: 30, time: 5, msg: 'hello' }));
  network.set({ warnings: ['low'] });
  const state = check(DashboardStateSchema, await (await fetch(`${url}/state`)).json(), 'STATE', 'the state');
  expect(state).toMatchObject({
    version: 1,
    networks: [{ chainId: 1, warnings: ['low'] }],
    log: [{ n: 1, at: 5, level: 'info', text: 'hello' }],
  });
  const { said } = await follow(url);
  await expect.poll(() => framesOf(said())[0]?.event).toBe('state');
  expect(check(DashboardStateSchema, framesOf(said())[0]!.data, 'STATE', 'the state').networks).toEqual(
    state.networks,
  );
});

test('what changes is sent as it changes, the part that changed alone', async () => {
  const { url, tail, network } = await start();
  const { said } = await follow(url);
  await expect.poll(() => framesOf(said()).length).toBe(1);
  network.set({ warnings: ['one'] });
  tail.write(JSON.stringify({ level: 50, time: 6, msg: 'bad', code: 'X' }));
  await expect.poll(() => framesOf(said()).length).toBe(3);
  expect(framesOf(said()).slice(1)).toEqual([
    { event: 'patch', data: { contract: network.contract, chainId: 1, warnings: ['one'] } },
    { event: 'log', data: [{ n: 1, at: 6, level: 'error', text: 'bad  code=X' }] },
  ]);
});

test('64 streams, and the 65th is refused with a code; where one goes, another may come', async () => {
  const { url, dashboard } = await start();
  const open = await Promise.all(Array.from({ length: 64 }, () => follow(url)));
  await expect.poll(() => dashboard.streams).toBe(64);
  const refused = await fetch(`${url}/events`);
  expect(refused.status).toBe(503);
  expect(await refused.json()).toMatchObject({ code: 'DASHBOARD_FULL' });
  // Whoever is refused may still read the state.
  expect((await fetch(`${url}/state`)).status).toBe(200);
  open[0]!.request.destroy();
  await expect.poll(() => dashboard.streams).toBe(63);
  await follow(url);
  await expect.poll(() => dashboard.streams).toBe(64);
});

test('whoever many look, the state is read once a round; while nobody looks it is not read', async () => {
  const { url, network, dashboard } = await start();
  expect(network.reads).toBe(0);
  const open = await Promise.all(Array.from({ length: 64 }, () => follow(url)));
  const before = network.reads;
  for (let nth = 1; nth <= 3; nth += 1) {
    network.set({ warnings: [`round ${nth}`] });
    for (const { said } of open) await expect.poll(said).toContain(`round ${nth}`);
  }
  const sent = framesOf(open[0]!.said()).filter(({ event }) => event === 'patch').length;
  // A round for each change, and at most some in which nothing had changed: not 64 for each.
  expect(network.reads - before).toBeLessThan(sent * 32);
  for (const { request } of open) request.destroy();
  await expect.poll(() => dashboard.streams).toBe(0);
  const { reads, looks } = network;
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect([network.reads, network.looks]).toEqual([reads, looks]);
});

test('a reader that does not keep up is cut off, and nobody waits for it', async () => {
  const { url, network, dashboard } = await start({ behind: 64 * 1024 });
  const [slow, quick] = [await follow(url), await follow(url)];
  slow.reply.pause();
  const cut = new Promise((resolve) => slow.reply.once('close', resolve));
  const big = 'x'.repeat(512 * 1024);
  let nth = 0;
  const timer = setInterval(() => network.set({ warnings: [`${big} ${nth++}`] }), 200);
  try {
    await expect.poll(() => dashboard.streams, { timeout: 120_000 }).toBe(1);
  } finally {
    clearInterval(timer);
  }
  network.set({ warnings: ['still here'] });
  await expect.poll(quick.said).toContain('still here');
  slow.reply.resume();
  await cut;
});

test('only a GET opens a stream', async () => {
  const { url, dashboard } = await start();
  for (const method of ['HEAD', 'POST', 'OPTIONS'])
    expect([method, (await fetch(`${url}/events`, { method })).status]).toEqual([method, 404]);
  expect(dashboard.streams).toBe(0);
});

test('a silent stream shows that it lives, far more often than a minute', async () => {
  expect(STREAM_LIMITS.heartbeat).toBeLessThan(60_000);
  const { url } = await start({ heartbeat: 50 });
  const { said } = await follow(url);
  // With how often it comes, so that a page knows how long a silence is none.
  await expect.poll(() => said().match(/event: beat\ndata: 50\n\n/g)?.length ?? 0).toBeGreaterThan(2);
});

test('another name, as a page that rebinds its own has it, is refused everywhere', async () => {
  const { app, url } = await start();
  for (const path of [
    '/dashboard',
    '/dashboard/',
    '/dashboard/main.js',
    '/dashboard/state',
    '/dashboard/events',
  ]) {
    const { statusCode, json } = await app.inject({ url: path, headers: { host: 'evil.example:7611' } });
    expect([path, statusCode, json().code]).toEqual([path, 403, 'HOST_REFUSED']);
  }
  for (const site of ['cross-site', 'same-site', 'strange']) {
    for (const path of ['state', 'events']) {
      const reply = await fetch(`${url}/${path}`, { headers: { 'sec-fetch-site': site } });
      expect([site, reply.status]).toEqual([site, 403]);
      expect(await reply.json()).toMatchObject({ code: 'ORIGIN_REFUSED' });
    }
  }
  // A browser that does not say from where still says whose an EventSource is.
  for (const origin of ['http://evil.example', 'null', 'http://127.0.0.1:1']) {
    for (const path of ['state', 'events']) {
      const reply = await fetch(`${url}/${path}`, { headers: { origin } });
      expect([origin, reply.status]).toEqual([origin, 403]);
      expect(await reply.json()).toMatchObject({ code: 'ORIGIN_REFUSED' });
    }
  }
  const own = { 'sec-fetch-site': 'same-origin', origin: new URL(url).origin };
  expect((await fetch(`${url}/state`, { headers: own })).status).toBe(200);
  expect((await fetch(`${url}/state`, { headers: { 'sec-fetch-site': 'same-origin' } })).status).toBe(200);
});

test('the page forbids everything that is not its own file, and has nothing inline', async () => {
  const { url } = await start();
  const reply = await fetch(url);
  expect(reply.url).toBe(`${url}/`);
  const policy = reply.headers.get('content-security-policy')!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("require-trusted-types-for 'script'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toMatch(/unsafe|\*|https?:|data:/);
  const html = await reply.text();
  expect(html).not.toMatch(/<style|\sstyle=|\son\w+=|javascript:|https?:\/\//i);
  for (const [tag] of html.matchAll(/<script[^>]*>/g)) expect(tag).toContain('src=');
  for (const [, file] of html.matchAll(/(?:src|href)="([^"#]+)"/g)) {
    const answer = await fetch(`${url}/${file}`);
    expect([file, answer.status]).toEqual([file, 200]);
    expect(answer.headers.get('content-security-policy')).toBe(policy);
  }
});

test('the page is at most 200 kB, and makes elements in one way only', () => {
  const folder = join(import.meta.dirname, 'page');
  const files = readdirSync(folder).filter((name) => name !== 'tsconfig.json');
  const texts = files.map((name) => readFileSync(join(folder, name), 'utf8'));
  expect(Buffer.byteLength(texts.join(''))).toBeLessThan(200_000);
  for (const [at, text] of texts.entries()) {
    expect(text, files[at]).not.toMatch(
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/,
    );
    if (files[at] !== 'dom.js') expect(text, files[at]).not.toContain('document.createElement');
  }
});
