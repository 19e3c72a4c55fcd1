import { createServer, type ServerResponse } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect, type TLSSocket } from 'node:tls';
import { describe, expect, test, vi } from 'vitest';
import { listenOn, TestFront } from '../../test/support/front.ts';
import { Fronted, PATIENCE, saying } from './front.fixture.ts';

const fronted = Fronted.forAllTests();
const { ask, raw } = fronted;

describe('while there is no app', () => {
  test('the page says why and when to look again', async () => {
    await fronted.front.serve();
    fronted.front.reason = 'greeting: ARCHIVE_MISSING <script>';
    const { status, headers, body } = await ask();
    expect(status).toBe(503);
    expect(headers).toMatchObject({
      'retry-after': '5',
      'cache-control': 'no-store',
      'content-type': 'text/html; charset=utf-8',
    });
    expect(body.toString()).toContain('greeting: ARCHIVE_MISSING &#60;script&#62;');
    expect((await ask({ method: 'POST', body: Buffer.alloc(300_000) })).status).toBe(503);
  });

  test('an app that is gone, late, or breaks off', async () => {
    await fronted.front.serve(1);
    const gone = await ask();
    expect(gone.status).toBe(503);
    expect(gone.headers['retry-after']).toBe('5');
    expect(gone.body.toString()).toContain('does not answer');
    await fronted.front.serve(fronted.port);
    const hasty = await TestFront.start({ times: { answer: 800 } });
    await hasty.serve(fronted.port);
    fronted.handle = () => {};
    expect((await ask({ port: hasty.port })).status).toBe(504);
    await hasty.stop();
    fronted.handle = (_req, res) => {
      res.writeHead(200, { 'content-length': '10' });
      res.write('half');
      setTimeout(() => res.destroy(), 50);
    };
    await expect(ask()).rejects.toThrow();
  });

  test('an answer that has begun may be slower than its first byte', async () => {
    const hasty = await TestFront.start({ times: { answer: 4_000 } });
    await hasty.serve(fronted.port);
    fronted.handle = (_req, res) => {
      res.write('first');
      setTimeout(() => res.end(' last'), 6_000);
    };
    expect((await ask({ port: hasty.port })).body.toString()).toBe('first last');
    await hasty.stop();
  });

  test.each([
    ['no status', 'HTTP/1.1 hello\r\n\r\n'],
    ['a status beyond all', 'HTTP/1.1 999 What\r\n\r\nx'],
    ['a status of four digits', 'HTTP/1.1 9999 \xff\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH\r\n'],
    ['a header without a name', 'HTTP/1.1 200 OK\r\n: x\r\n\r\n'],
    [
      'a coding that is not chunked',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    ],
    [
      'a switch that nobody asked for',
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw',
    ],
  ])('an app that answers %s is told so', async (_, answer) => {
    const sloppy = await saying(answer);
    await fronted.front.serve(sloppy.port);
    const { status, body } = await ask();
    expect(status).toBe(502);
    expect(body.toString()).toContain('not HTTP');
    sloppy.close();
    fronted.handle = (_req, res) => res.end('fine');
    await fronted.front.serve(fronted.port);
    expect((await ask()).body.toString()).toBe('fine');
  });

  test("the node's own paths are no app's", async () => {
    fronted.handle = (_req, res) => res.end('the app');
    fronted.front.answers = async ({ method, target }) => ({
      status: 200,
      headers: {},
      body: `${method} ${target}`,
    });
    const path = '/.well-known/dstack/evidence.json?nonce=1';
    expect((await ask({ path })).body.toString()).toBe(`GET ${path}`);
    expect((await ask({ path, method: 'POST', body: Buffer.from('x') })).body.toString()).toBe(
      `POST ${path}`,
    );
    expect((await ask({ path, method: 'HEAD' })).body.toString()).toBe('');
    expect(await raw(`GET https://a${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)).toContain(
      path,
    );
    for (const other of ['/.well-known/dstackx', '/.well-known/other', '/x/.well-known/dstack/'])
      expect((await ask({ path: other })).body.toString()).toBe('the app');
  });
});

describe('limits', () => {
  test('a body that is too large, announced or not', async () => {
    fronted.handle = (req, res) => req.resume().on('end', () => res.end('read'));
    const announced = await ask({ method: 'POST', headers: { 'content-length': '1000001' } }).catch(() => ({
      status: 413,
    }));
    expect(announced.status).toBe(413);
    const chunked = (bytes: number) =>
      ask({ method: 'POST', headers: { 'transfer-encoding': 'chunked' }, body: Buffer.alloc(bytes) });
    const outcome = await chunked(2_000_000).then(
      ({ body }) => body.toString(),
      () => 'cut off',
    );
    expect(outcome).not.toBe('read');
    expect((await chunked(900_000)).body.toString()).toBe('read');
    expect((await ask({ method: 'POST', body: Buffer.alloc(1_000_000) })).body.toString()).toBe('read');

    const overHttp2 = async (bytes: number) => {
      const session = connectHttp2(`https://localhost:${fronted.front.port}`, {
        ca: fronted.front.credentials.certificate,
      });
      session.on('error', () => {});
      const stream = session.request({ ':method': 'POST', ':path': '/' });
      stream.end(Buffer.alloc(bytes));
      const said = await text(stream).catch(() => 'cut off');
      session.destroy();
      return said;
    };
    expect(await overHttp2(900_000)).toBe('read');
    expect(await overHttp2(2_000_000)).not.toBe('read');
  });

  test('a head that is too large', async () => {
    const said = await raw(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
    expect(said).toMatch(/^HTTP\/1.1 4\d\d /);
    fronted.handle = (_req, res) => res.end('fine');
    expect((await ask({ headers: { x: 'x'.repeat(14_000) } })).body.toString()).toBe('fine');
  });

  test('connections in all and by source, and a head that never ends', async () => {
    // Whoever is let in stays, however slowly the others come.
    const small = await TestFront.start({
      limits: { perSource: 5, connections: 20 },
      times: { request: 600_000 },
    });
    await small.serve(fronted.port);
    const dial = (localAddress: string, port = small.port) =>
      new Promise<TLSSocket | undefined>((resolve) => {
        const socket = connectTcp({ host: '127.0.0.1', port, localAddress });
        const secure = connect({ socket, rejectUnauthorized: false });
        secure.on('secureConnect', () => resolve(secure)).on('error', () => resolve(undefined));
        socket.on('error', () => resolve(undefined));
      });
    const mine: (TLSSocket | undefined)[] = [];
    for (let i = 0; i < 8; i++) mine.push(await dial('127.0.0.7'));
    expect(mine.filter((one) => one !== undefined)).toHaveLength(5);
    // Another visitor is let in.
    expect(await dial('127.0.0.8')).toBeDefined();
    const hasty = await TestFront.start({ times: { request: 2_000 } });
    await hasty.serve(fronted.port);
    const other = await dial('127.0.0.8', hasty.port);
    const began = performance.now();
    other!.write('GET / HTTP/1.1\r\nHost: a\r\n');
    await new Promise((resolve) => other!.resume().on('close', resolve));
    expect(performance.now() - began).toBeLessThan(60_000);
    for (const one of mine) one?.destroy();
    await Promise.all([small.stop(), hasty.stop()]);
  });

  test('requests at once, by source and in all: HTTP/2 brings many over one connection', async () => {
    // Room for 24 connections of visitors, as many beside them to apps, and 40 requests.
    const limits = {
      connections: 24,
      httpConnections: 10,
      perSource: 10,
      requests: 40,
      requestsPerSource: 30,
    };
    // What asks for what is never answered goes on asking.
    const times = { request: 600_000, answer: 600_000, client: 600_000 };
    const small = await TestFront.start({ limits, times });
    let asked = 0;
    const silent = createServer((req, res) => {
      asked += 1;
      if (req.url === '/quick') res.end('here');
    });
    await small.serve(await listenOn(silent));
    const from = (localAddress: string) => {
      const socket = () =>
        connect({
          socket: connectTcp({ host: '127.0.0.1', port: small.port, localAddress }),
          rejectUnauthorized: false,
          ALPNProtocols: ['h2'],
        });
      return connectHttp2('https://localhost', { createConnection: socket }).on('error', () => {});
    };
    const ask = (session: ReturnType<typeof from>, path: string) =>
      new Promise<number | undefined>((resolve) => {
        const stream = session.request({ ':path': path });
        stream.on('response', (headers) => resolve(headers[':status']));
        stream.on('error', () => resolve(undefined)).resume();
      });
    const greedy = Array.from({ length: 5 }, () => from('127.0.0.7'));
    const statuses: (number | undefined)[] = [];
    for (const session of greedy)
      for (let i = 0; i < 60; i++) void ask(session, '/slow').then((status) => statuses.push(status));
    await vi.waitFor(() => expect(statuses.length).toBe(270), PATIENCE);
    expect(new Set(statuses)).toEqual(new Set([429]));
    await vi.waitFor(() => expect(asked).toBe(30), PATIENCE);
    // Everybody else still gets through, up to what there is in all.
    const other = from('127.0.0.8');
    expect(await ask(other, '/quick')).toBe(200);
    for (let i = 0; i < 10; i++) void ask(other, '/slow');
    await vi.waitFor(() => expect(asked).toBe(41), PATIENCE);
    expect(await ask(from('127.0.0.9'), '/quick')).toBe(429);
    // What was asked for and is done counts no more, and no app keeps a visitor's many connections.
    for (const session of [...greedy, other]) session.destroy();
    // It answers twelve at once, so that each has a connection of its own until then.
    let held: ServerResponse[] = [];
    const brief = createServer((_req, res) => {
      if (held.push(res) === 12) for (const one of held) one.end('here');
      setTimeout(() => res.end('late'), 2_000);
    });
    await small.serve(await listenOn(brief));
    const third = from('127.0.0.7');
    await vi.waitFor(async () => {
      held = [];
      await Promise.all(Array.from({ length: 12 }, () => ask(third, '/')));
      expect(held.length).toBe(12);
    }, PATIENCE);
    await vi.waitFor(async () => {
      const count = await new Promise<number>((resolve) => brief.getConnections((_, n) => resolve(n)));
      expect(count).toBeLessThanOrEqual(8);
    }, PATIENCE);
    third.destroy();
    for (const server of [silent, brief]) {
      server.closeAllConnections();
      server.close();
    }
    await small.stop();
  });

  test("an answer of the node's own that nobody reads keeps it from nobody else", async () => {
    fronted.front.answers = async () => ({ status: 200, headers: {}, body: 'e'.repeat(60_000) });
    const path = '/.well-known/dstack/evidence.json';
    const deaf = connectHttp2('https://localhost', {
      settings: { initialWindowSize: 0 },
      createConnection: () =>
        connect({
          socket: connectTcp({ host: '127.0.0.1', port: fronted.front.port, localAddress: '127.0.0.7' }),
          rejectUnauthorized: false,
          ALPNProtocols: ['h2'],
        }),
    }).on('error', () => {});
    const streams = Array.from({ length: 100 }, () => deaf.request({ ':path': path }).on('error', () => {}));
    await vi.waitFor(
      () => expect(streams.filter(({ sentHeaders }) => sentHeaders).length).toBe(100),
      PATIENCE,
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { status, body } = await ask({ path });
    expect([status, body.length]).toEqual([200, 60_000]);
    deaf.destroy();
  });

  test("a body for the node's own that comes slowly keeps it from nobody", async () => {
    fronted.front.answers = async ({ method }) => ({ status: 200, headers: {}, body: method });
    const path = '/.well-known/dstack/evidence.json';
    const slow = Array.from({ length: 120 }, (_, number) => {
      const localAddress = `127.0.0.${20 + (number % 20)}`;
      const socket = connect({
        socket: connectTcp({ host: '127.0.0.1', port: fronted.front.port, localAddress }),
        rejectUnauthorized: false,
      }).on('error', () => {});
      socket.resume().on('secureConnect', () => {
        socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nslow`);
      });
      return socket;
    });
    await vi.waitFor(() => expect(slow.every(({ bytesWritten }) => bytesWritten > 0)).toBe(true), PATIENCE);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const began = performance.now();
    expect((await ask({ path })).body.toString()).toBe('GET');
    expect(performance.now() - began).toBeLessThan(45_000);
    for (const socket of slow) socket.destroy();
    expect((await ask({ path, method: 'POST', body: Buffer.alloc(16 * 1024) })).body.toString()).toBe('POST');
    expect((await ask({ path, method: 'POST', body: Buffer.alloc(300_000) })).status).toBe(413);
  });

  test('none by source where many visitors come from one address', async () => {
    const shared = await TestFront.start({ limits: { perSource: 2, sharedSources: ['127.0.0.1'] } });
    await shared.serve(fronted.port);
    const sockets = Array.from({ length: 6 }, () =>
      connect({ host: '127.0.0.1', port: shared.port, rejectUnauthorized: false }),
    );
    await Promise.all(
      sockets.map(
        (one) => new Promise((resolve, reject) => one.on('secureConnect', resolve).on('error', reject)),
      ),
    );
    for (const one of sockets) one.destroy();
    await shared.stop();
  });
});
