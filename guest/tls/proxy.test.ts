import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { buffer } from 'node:stream/consumers';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import type { UpstreamReply } from '../../lib/protocol/sockets.ts';
import { selfSigned } from './certificate.ts';
import { proxyServer } from './proxy.ts';

const credentials = selfSigned({
  privateKey: fromHex('11'.repeat(32)),
  chainId: 1,
  contract: parseAddress(`0x${'ab'.repeat(20)}`),
  builtAt: Math.floor(Date.now() / 1000),
});

let handle: (req: IncomingMessage, res: ServerResponse) => void = () => {};
const app = createServer((req, res) => handle(req, res));
let upstream: () => Promise<UpstreamReply>;
let proxy: Server;
const logged: string[] = [];

const listen = async (server: { listen(port: number, host: string, done: () => void): unknown }) =>
  new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;

beforeAll(async () => {
  app.on('upgrade', (req, socket, head) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${req.headers['sec-websocket-key']}\r\n\r\n`,
    );
    socket.write(head);
    socket.pipe(socket);
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  await listen(app);
  proxy = proxyServer({
    credentials,
    upstream: () => upstream(),
    node: async ({ method, target }) => ({
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ method, target }),
    }),
    log: { warn: (_fields, msg) => logged.push(msg) },
    maxBodyBytes: 1_000_000,
    answerWithin: 400,
  }) as unknown as Server;
  await listen(proxy);
});
beforeEach(async () => {
  upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: portOf(app) });
  // What the proxy remembers of the test before is forgotten.
  await new Promise((resolve) => setTimeout(resolve, 1_050));
});
afterAll(() => {
  proxy.close();
  app.close();
});

/** WebSockets that the app sees. */
const open = new Set<unknown>();

interface Ask {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: Buffer;
}

async function ask({ method = 'GET', path = '/', headers = {}, body }: Ask = {}) {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port: portOf(proxy),
      servername: 'localhost',
      ca: credentials.certificate,
    };
    const req = request({ ...options, method, path, headers, agent: false }, resolve).on('error', reject);
    req.end(body);
  });
  return {
    status: response.statusCode,
    headers: response.headers,
    body: await buffer(response),
    tls: response.socket as TLSSocket,
  };
}

function raw(lines: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: '127.0.0.1',
      port: portOf(proxy),
      ca: credentials.certificate,
      servername: 'localhost',
    });
    let seen = '';
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
    });
    socket.on('close', () => resolve(seen)).on('error', reject);
    socket.write(lines);
  });
}

describe('proxy', () => {
  test('passes a request and its answer, streaming', async () => {
    handle = (req, res) => {
      res.writeHead(201, 'Made', { 'x-app': `${req.method} ${req.url}`, 'set-cookie': ['a=1', 'b=2'] });
      req.pipe(res);
    };
    const body = Buffer.alloc(500_000, 7);
    const answer = await ask({ method: 'POST', path: '/a/b?c=%2F', body });
    expect(answer.status).toBe(201);
    expect(answer.headers['x-app']).toBe('POST /a/b?c=%2F');
    expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect(answer.body.equals(body)).toBe(true);
  });

  test('speaks modern TLS only, with the post-quantum group where the client has it', async () => {
    handle = (_req, res) => res.end();
    const old = () =>
      new Promise((resolve) => {
        const options = { host: '127.0.0.1', port: portOf(proxy), rejectUnauthorized: false };
        connect({ ...options, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' })
          .on('secureConnect', () => resolve('accepted'))
          .on('error', () => resolve('refused'));
      });
    expect(await old()).toBe('refused');
    const socket = connect({
      host: '127.0.0.1',
      port: portOf(proxy),
      ca: credentials.certificate,
      servername: 'localhost',
      ecdhCurve: 'X25519MLKEM768',
    });
    await new Promise((resolve) => socket.on('secureConnect', () => resolve(undefined)));
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(socket.getPeerX509Certificate()!.fingerprint256.replaceAll(':', '').toLowerCase()).toBe(
      credentials.fingerprint,
    );
    socket.destroy();
  });

  test('says where a request came from, and believes no client about it', async () => {
    handle = (req, res) => res.end(JSON.stringify(req.headers));
    const { body } = await ask({
      headers: {
        host: 'site.example',
        'x-forwarded-for': '6.6.6.6',
        'X-Forwarded-Proto': 'gopher',
        'x-forwarded-user': 'admin',
        'x-real-ip': '6.6.6.6',
        forwarded: 'for=6.6.6.6',
        via: '1.1 evil',
        connection: 'x-secret',
        'x-secret': '1',
        te: 'trailers',
        'x-kept': '1',
      },
    });
    const seen = JSON.parse(body.toString()) as Record<string, string>;
    expect(seen).toMatchObject({
      host: 'site.example',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'site.example',
      'x-kept': '1',
    });
    for (const name of ['x-forwarded-user', 'x-real-ip', 'forwarded', 'via', 'x-secret', 'te'])
      expect(seen).not.toHaveProperty(name);
  });

  test('hop-by-hop headers of the app end here too', async () => {
    handle = (_req, res) => {
      res.writeHead(200, {
        connection: 'x-inner',
        'x-inner': '1',
        'keep-alive': 'timeout=1',
        'x-outer': '1',
      });
      res.end();
    };
    const { headers } = await ask();
    expect(headers).toHaveProperty('x-outer', '1');
    expect(headers).not.toHaveProperty('x-inner');
  });

  test('while there is no app, says why and when to look again', async () => {
    upstream = async () => {
      throw new DstackError('NOT_READY', 'greeting: ARCHIVE_MISSING <script>');
    };
    const { status, headers, body } = await ask();
    expect(status).toBe(503);
    expect(headers['retry-after']).toBe('5');
    expect(body.toString()).toContain('greeting: ARCHIVE_MISSING &#60;script&#62;');
  });

  test('an app that is gone, late, or breaks off', async () => {
    upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: 1 });
    expect((await ask()).status).toBe(503);
    upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: portOf(app) });
    handle = () => {};
    expect((await ask()).status).toBe(504);
    handle = (_req, res) => {
      res.writeHead(200, { 'content-length': '10' });
      res.write('half');
      setTimeout(() => res.destroy(), 50);
    };
    await expect(ask()).rejects.toThrow();
  });

  test('an app whose answer is not HTTP by the letter is told so', async () => {
    const sloppy = createTcpServer((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nContent-Type: text/html\n\nhello'),
    );
    await listen(sloppy);
    upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: portOf(sloppy) });
    const { status, body } = await ask();
    expect(status).toBe(502);
    expect(body.toString()).toContain('not HTTP');
    sloppy.close();
  });

  test('strangers cannot fill the log', async () => {
    upstream = async () => {
      throw new DstackError('NOT_READY', 'greeting is starting');
    };
    logged.length = 0;
    for (let i = 0; i < 5; i++) await ask();
    expect(logged).toHaveLength(1);
  });

  test('a body that is too large, announced or not', async () => {
    handle = (req, res) => req.resume().on('end', () => res.end('read'));
    const announced = await ask({ method: 'POST', headers: { 'content-length': '1000001' } }).catch(() => ({
      status: 413,
    }));
    expect(announced.status).toBe(413);
    const big = {
      method: 'POST',
      headers: { 'transfer-encoding': 'chunked' },
      body: Buffer.alloc(1_100_000),
    };
    expect(
      await ask(big).then(
        ({ status }) => status,
        () => 413,
      ),
    ).toBe(413);
    expect((await ask({ method: 'POST', body: Buffer.alloc(1_000_000) })).body.toString()).toBe('read');
  });

  test("the node's own folder is not the app's", async () => {
    handle = (_req, res) => res.end('the app');
    const path = '/.well-known/dstack/evidence.json?nonce=1';
    expect(JSON.parse((await ask({ path })).body.toString())).toEqual({ method: 'GET', target: path });
    expect((await ask({ method: 'HEAD', path })).body.toString()).toBe('');
    expect((await ask({ path: '/.well-known/dstackx' })).body.toString()).toBe('the app');
  });

  test('never to an address of the node itself', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4');
    const host = own?.address ?? '';
    // A machine without any network has no such address, and nothing to protect.
    if (host === '') return;
    upstream = async () => ({ app: 'greeting', host, port: portOf(app) });
    handle = (_req, res) => res.end('reached');
    const { status, body } = await ask();
    expect(status).toBe(503);
    expect(body.toString()).toContain('own address');
  });

  test('WebSocket: bytes pass both ways, until one side is done', async () => {
    const socket = connect({
      host: '127.0.0.1',
      port: portOf(proxy),
      ca: credentials.certificate,
      servername: 'localhost',
    });
    socket.write(
      'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\nhello',
    );
    let seen = '';
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
    });
    await vi.waitFor(() => expect(seen).toMatch(/^HTTP\/1.1 101 [\s\S]*Accept: abc\r\n\r\nhello$/));
    socket.write('bye');
    await vi.waitFor(() => expect(seen.endsWith('\r\n\r\nhellobye')).toBe(true));
    expect(open.size).toBe(1);
    socket.end();
    await vi.waitFor(() => expect(open.size).toBe(0));
  });

  test('nothing but WebSocket is upgraded, and smuggling is refused', async () => {
    expect(await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')).toContain(
      ' 400 ',
    );
    const both =
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    expect(await raw(both)).toContain(' 400 ');
    expect(await raw(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).toContain(' 431 ');
  });
});

describe('no request becomes another one', () => {
  const seen: string[] = [];
  const ports = new Set<number>();
  beforeEach(() => {
    seen.length = 0;
    ports.clear();
    handle = async (req, res) => {
      ports.add(req.socket.remotePort!);
      const body = await buffer(req);
      seen.push(`${req.method} ${req.url} ${body.length}`);
      res.end('ok');
    };
  });
  const inner = 'GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n';

  test.each(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'POST', 'PUT', 'PATCH'])(
    '%s keeps the framing of its body, by length or in chunks',
    async (method) => {
      const chunked = `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
      const end = 'Host: localhost\r\nConnection: close\r\n';
      await raw(`${method} /a HTTP/1.1\r\n${end}Transfer-Encoding: chunked\r\n\r\n${chunked}`);
      await raw(`${method} /b HTTP/1.1\r\n${end}Content-Length: ${inner.length}\r\n\r\n${inner}`);
      await raw(`GET /c HTTP/1.1\r\n${end}\r\n`);
      expect(seen).toEqual([`${method} /a ${inner.length}`, `${method} /b ${inner.length}`, 'GET /c 0']);
    },
  );

  test('a connection to the app carries the requests of one visitor only, and one request', async () => {
    for (let n = 0; n < 3; n += 1) await ask({ path: `/${n}` });
    expect(ports.size).toBe(3);
  });

  test.each(['Content-Length: 5\r\n\r\nhello', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'])(
    'a WebSocket handshake has no body: %j',
    async (rest) => {
      const answer = await raw(
        `GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${rest}`,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 400 /);
      expect(open.size).toBe(0);
    },
  );

  test('a coding that would be lost is refused', async () => {
    const answer = await raw(
      'POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 501 /);
    expect(seen).toEqual([]);
  });
});

test.each(['HTTP/1.1 099 Odd', 'HTTP/1.1 999 \u0001', 'HTTP/1.1 101 Unasked'])(
  'an app that answers %j costs that request, and nothing else',
  async (line) => {
    const odd = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(Buffer.from(`${line}\r\nContent-Length: 0\r\n\r\n`, 'latin1')));
    });
    await listen(odd);
    upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: portOf(odd) });
    const { status } = await ask();
    expect(status).toBe(502);
    odd.close();
    upstream = async () => ({ app: 'greeting', host: '127.0.0.1', port: portOf(app) });
    handle = (_req, res) => res.end('ok');
    await new Promise((resolve) => setTimeout(resolve, 1_050));
    expect((await ask()).status).toBe(200);
  },
);
