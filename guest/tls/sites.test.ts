/** Several sites behind one front, as visitors and their apps meet them: HAProxy itself. */
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { listenOn, pemOf, TestFront } from '../../test/support/front.ts';
import { Front, type FrontState } from './front.ts';

/** Milliseconds in which only what hangs has not come. */
const PATIENCE = 60_000;

type Site = FrontState['sites'][number];

const servers: { close(): unknown }[] = [];
let front: TestFront;
/** The network's website, and two apps with a domain each. */
let [website, shop, blog]: Site[] = [];

/** An app that says its name, and at which host it was asked. */
async function appNamed(name: string, ...domains: string[]): Promise<Site> {
  const server: Server = createServer((req, res) => {
    res.setHeader('x-host', req.headers.host ?? '');
    res.end(name);
  });
  server.on('upgrade', (_req, socket) => {
    socket.on('error', () => {});
    // For a key of zeros (RFC 6455, 4.2.2).
    const accept = createHash('sha1').update('AAAAAAAAAAAAAAAAAAAAAA==258EAFA5-E914-47DA-95CA-C5AB0DC85B11');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept.digest('base64')}\r\n\r\n`,
    );
    socket.write(name);
  });
  servers.push(server);
  const port = await listenOn(server);
  return { domains, upstream: { app: name, host: '127.0.0.1', port, protocol: 'http/1.1' } };
}

beforeAll(async () => {
  front = await TestFront.start();
  website = await appNamed('website', 'network.example', 'www.network.example');
  shop = await appNamed('shop', 'shop.example');
  blog = await appNamed('blog', 'blog.example');
});
const all = (): Site[] => [website!, shop!, blog!];
beforeEach(async () => {
  front.reason = 'not up';
  await front.apply({ sites: all() });
});
afterAll(async () => {
  await front.stop();
  for (const server of servers) server.close();
});

/** Status and body of what a visitor gets, who asks for `sni` in the handshake and for `host` in the request. */
function visit(sni: string | undefined, host = sni ?? '127.0.0.1'): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: front.port, agent: false, rejectUnauthorized: false };
    // An empty one is left out of the handshake.
    const name = { servername: sni ?? '' };
    request({ ...options, ...name, headers: { host } }, (response) => {
      text(response).then((body) => resolve(`${response.statusCode} ${body}`), reject);
    })
      .on('error', reject)
      .end();
  });
}

test('each name has its site; a name that nobody has, and no name, the website', async () => {
  expect(await visit('shop.example')).toBe('200 shop');
  expect(await visit('blog.example', 'BLOG.example:443')).toBe('200 blog');
  for (const name of [
    'network.example',
    'www.network.example',
    'nobody.example',
    'shop.example.evil.example',
  ])
    expect(await visit(name)).toBe('200 website');
  expect(await visit(undefined)).toBe('200 website');
});

test.each([
  ['shop.example', 'blog.example'],
  ['shop.example', 'network.example'],
  ['shop.example', 'nobody.example'],
  ['shop.example', 'shop.example.'],
  ['network.example', 'shop.example'],
  ['nobody.example', 'shop.example'],
  [undefined, 'shop.example'],
])('who asked for %s in the handshake gets nothing of %s', async (sni, host) => {
  expect(await visit(sni, host)).toMatch(/^421 /);
});

test('the names of one site may share a connection', async () => {
  expect(await visit('network.example', 'www.network.example')).toBe('200 website');
  expect(await visit('network.example', 'nobody.example')).toBe('200 website');
});

test('HTTP/1.0 without a host is the website, and on a connection for an app nothing', async () => {
  const raw = (servername: string): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port: front.port, servername, rejectUnauthorized: false });
    socket.write('GET / HTTP/1.0\r\n\r\n');
    return text(socket);
  };
  expect(await raw('network.example')).toMatch(/ 200 [\s\S]*website$/);
  expect(await raw('shop.example')).toMatch(/ 421 /);
});

test('a connection of HTTP/2 that is used for another site of the same certificate is told so, and goes on', async () => {
  const session = connectHttp2(`https://127.0.0.1:${front.port}`, {
    servername: 'shop.example',
    rejectUnauthorized: false,
  });
  const over = async (authority: string): Promise<string> => {
    const stream = session.request({ ':path': '/', ':authority': authority });
    const status = new Promise((resolve) => stream.on('response', (headers) => resolve(headers[':status'])));
    return `${await status} ${await text(stream)}`;
  };
  expect(await over('shop.example')).toBe('200 shop');
  expect(await over('blog.example')).toMatch(/^421 /);
  expect(await over('network.example')).toMatch(/^421 /);
  expect(await over('shop.example')).toBe('200 shop');
  session.destroy();
});

test('WebSocket and HTTP/2 in the clear are per site', async () => {
  const h2c = createHttp2Server((req, res) => res.end(`over ${req.httpVersion}`));
  servers.push(h2c);
  const upstream = { ...blog!.upstream!, port: await listenOn(h2c), protocol: 'h2c' as const };
  await front.apply({ sites: [website!, shop!, { ...blog!, upstream }] });
  expect(await visit('blog.example')).toBe('200 over 2.0');
  expect(await visit('shop.example')).toBe('200 shop');
  const socket = connect({
    host: '127.0.0.1',
    port: front.port,
    servername: 'shop.example',
    rejectUnauthorized: false,
  });
  socket.write(
    'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
  );
  let seen = '';
  socket.on('data', (bytes) => {
    seen += bytes.toString('latin1');
  });
  await vi.waitFor(() => expect(seen).toMatch(/ 101 [\s\S]*shop$/), PATIENCE);
  socket.destroy();
});

test('an app that dies, one that is refused and one that is gone touch no other site', async () => {
  const gone = await appNamed('gone', 'gone.example');
  await front.apply({ sites: [...all(), gone] });
  expect(await visit('gone.example')).toBe('200 gone');
  const nowhere = { ...gone, upstream: { ...gone.upstream!, port: 1 } };
  await front.apply({ sites: [...all(), nowhere] });
  expect(await visit('gone.example')).toMatch(/^503 /);
  expect(await visit('shop.example')).toBe('200 shop');
  const refused = { ...gone, upstream: { ...gone.upstream!, host: '0.0.0.0' } };
  await expect(front.apply({ sites: [website!, refused, shop!, blog!] })).rejects.toMatchObject({
    code: 'UPSTREAM_OWN',
  });
  front.reason = 'gone: APP_NOT_UP';
  expect(await visit('gone.example')).toMatch(/^503 [\s\S]*gone: APP_NOT_UP/);
  for (const one of ['shop', 'blog']) expect(await visit(`${one}.example`)).toBe(`200 ${one}`);
  await front.apply({ sites: all() });
  expect(await visit('gone.example')).toBe('200 website');
});

test("sites that come, go and change their order move no other's requests, not for a moment", async () => {
  const [one, two] = [await appNamed('one', 'one.example'), await appNamed('two', 'two.example')];
  const wrong: string[] = [];
  let answered = 0;
  let done = false;
  const visitors = ['shop', 'blog'].map(async (name) => {
    while (!done) {
      const said = await visit(`${name}.example`).catch((error: Error) => error.message);
      if (said === `200 ${name}`) answered += 1;
      else wrong.push(said);
    }
  });
  for (let i = 0; i < 4; i++) {
    await front.apply({ sites: [website!, one, shop!, two, blog!] });
    await front.apply({ sites: [website!, blog!, two, shop!] });
    await front.apply({ sites: [website!, shop!, one, blog!] });
  }
  done = true;
  await Promise.all(visitors);
  expect(wrong).toEqual([]);
  expect(answered).toBeGreaterThan(10);
});

test('a domain that goes from one app to another is never anybody else’s', async () => {
  const seen = new Set<string>();
  let done = false;
  const visitor = (async () => {
    while (!done) seen.add((await visit('shop.example')).replace(/^503 [\s\S]*/, '503'));
  })();
  const other = { ...blog!, domains: ['shop.example'] };
  for (let i = 0; i < 4; i++) {
    await front.apply({ sites: [website!, other, { ...blog!, domains: ['blog.example'] }] });
    await front.apply({ sites: all() });
  }
  done = true;
  await visitor;
  expect(seen).not.toContain('200 website');
  expect([...seen].every((said) => ['200 shop', '200 blog', '503'].includes(said))).toBe(true);
});

test('a driver that starts again finds each site where it is', async () => {
  const before = await front.control(`show map ${front.description.folder}/domains.map`);
  const next = new Front(front.description);
  const changed = await next.apply({
    certificate: { ...pemOf(front.credentials), provisional: true },
    certificates: [],
    sites: [website!, blog!, shop!],
    sorting: false,
    challenges: [],
  });
  expect(changed).toEqual([]);
  expect(await front.control(`show map ${front.description.folder}/domains.map`)).toBe(before);
});

test('with every place taken, a site waits and all others go on', async () => {
  const full = Array.from({ length: 31 }, (_, index) => ({
    ...shop!,
    domains: [`s${index}.example`],
  }));
  await front.apply({ sites: [website!] });
  await front.apply({ sites: [website!, ...full] });
  // One leaves as another comes: its place is free only once nothing leads there.
  const sites = [website!, ...full.slice(1), blog!];
  await expect(front.apply({ sites })).rejects.toMatchObject({ code: 'FRONT_FULL' });
  expect(await visit('s7.example')).toBe('200 shop');
  await front.apply({ sites });
  expect(await visit('blog.example')).toBe('200 blog');
  await expect(front.apply({ sites: [website!, ...full, blog!] })).rejects.toMatchObject({
    code: 'FRONT_STATE',
  });
});
