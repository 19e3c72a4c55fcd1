/** The front as a visitor meets it: HAProxy itself, over TLS, before an app of the test's. */
import { createHash, X509Certificate } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { Agent, request } from 'node:https';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { buffer, text } from 'node:stream/consumers';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { credentialsOf, listenOn, pemOf, TestFront } from '../../test/support/front.ts';
import type { FrontState } from './front.ts';
import { certificateList } from './front-config.ts';
import { ask as askFront } from './runtime-socket.ts';

/** Milliseconds in which only what hangs has not come. */
const PATIENCE = 60_000;

let handle: (req: IncomingMessage, res: ServerResponse) => void = () => {};
/** It takes what it gets: what is refused here, the front refuses. */
const app = createServer({ requireHostHeader: false }, (req, res) => handle(req, res));
/** WebSockets that the app sees. */
const open = new Set<unknown>();
let appPort: number;
let front: TestFront;

beforeAll(async () => {
  app.on('upgrade', (req, socket, head) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${acceptOf(req.headers['sec-websocket-key'])}\r\n\r\n`,
    );
    socket.write(head);
    socket.pipe(socket);
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => open.delete(socket));
  });
  appPort = await listenOn(app);
  front = await TestFront.start({ limits: { bodyBytes: 1_000_000 } });
});
beforeEach(() => front.serve(appPort));
afterAll(async () => {
  await front.stop();
  app.close();
  app.closeAllConnections();
});

/** RFC 6455, 4.2.2. */
const acceptOf = (key: unknown): string =>
  createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

interface Ask {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: Buffer;
  servername?: string;
  port?: number;
  agent?: Agent | false;
}

async function ask({
  method = 'GET',
  path = '/',
  headers = {},
  body,
  servername = 'localhost',
  port = front.port,
  agent = false,
}: Ask = {}) {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      servername,
      ca: front.credentials.certificate,
      checkServerIdentity: () => undefined,
    };
    const req = request({ ...options, method, path, headers, agent }, resolve).on('error', reject);
    req.end(body);
  });
  return { status: response.statusCode, headers: response.headers, body: await buffer(response) };
}

const open_ = (options: ConnectionOptions = {}): TLSSocket =>
  connect({ host: '127.0.0.1', port: front.port, rejectUnauthorized: false, ...options });

/** All that comes back for these bytes until the front hangs up. */
function raw(lines: string, options: ConnectionOptions = {}): Promise<string> {
  return new Promise((resolve) => {
    const socket = open_(options);
    let seen = '';
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
    });
    socket.on('close', () => resolve(seen)).on('error', () => {});
    socket.write(lines, 'latin1');
  });
}

/** The fingerprint of the certificate that is shown for a name. */
function shown(servername?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = open_(servername === undefined ? {} : { servername });
    socket.on('error', reject).on('secureConnect', () => {
      resolve(new X509Certificate(socket.getPeerCertificate(true).raw).fingerprint256);
      socket.destroy();
    });
  });
}

/** A server whose every answer is these bytes, after which it hangs up. */
async function saying(answer: string): Promise<{ port: number; close(): void }> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(answer, 'latin1'));
  });
  return { port: await listenOn(server), close: () => server.close() };
}

describe('requests and answers', () => {
  test('pass, streaming', async () => {
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

  test('say where a request came from, and no client is believed about it', async () => {
    handle = (req, res) => res.end(JSON.stringify(req.headers));
    const { body } = await ask({
      headers: {
        host: 'site.example',
        'x-forwarded-for': '6.6.6.6',
        'X-Forwarded-Proto': 'gopher',
        'x-forwarded-user': 'admin',
        'x-forwarded-server': 'evil',
        'x-original-url': '/admin',
        'x-real-ip': '6.6.6.6',
        'true-client-ip': '6.6.6.6',
        'cf-connecting-ip': '6.6.6.6',
        'client-ip': '6.6.6.6',
        'x-client-ip': '6.6.6.6',
        'x-cluster-client-ip': '6.6.6.6',
        'x-rewrite-url': '/admin',
        'x-host': 'evil',
        'x-http-host-override': 'evil',
        'x-url-scheme': 'http',
        'front-end-https': 'off',
        // CGI makes HTTP_PROXY of it, by which an app's own requests would go (httpoxy).
        proxy: 'http://evil',
        forwarded: 'for=6.6.6.6',
        via: '1.1 evil',
        connection: 'keep-alive, x-secret',
        'x-secret': '1',
        'keep-alive': 'timeout=1000',
        'proxy-authorization': 'Basic x',
        te: 'trailers',
        'x-kept': '1',
      },
    });
    expect(JSON.parse(body.toString())).toEqual({
      host: 'site.example',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'site.example',
      'x-kept': '1',
    });
  });

  test.each(['X_Forwarded_For', 'X_Real_IP', 'X-Forwarded_User', 'Content_Length', 'x.real.ip'])(
    "%s, which CGI's convention turns into another name, does not pass",
    async (name) => {
      handle = (req, res) => res.end(JSON.stringify(req.rawHeaders));
      const { body } = await ask({ headers: { [name]: '66', 'x-kept': '1' } });
      expect(body.toString()).toContain('x-kept');
      expect(body.toString()).not.toContain('"66"');
    },
  );

  test("a connection's own headers end at the front, the app's too; what frames a message is nobody's to drop", async () => {
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
    expect(headers['keep-alive']).not.toBe('timeout=1');

    handle = (req, res) => text(req).then((body) => res.end(`${req.headers.host} ${body}`));
    const said = await raw(
      'POST / HTTP/1.1\r\nHost: a\r\nConnection: close, host, content-length\r\nContent-Length: 5\r\n\r\nabcde',
    );
    expect(said).toMatch(/ 200 [\s\S]*a abcde/);
  });

  test('early hints, and answers without a body, pass as they are', async () => {
    const hints = await saying(
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 None\r\nX-App: 1\r\n\r\n',
    );
    await front.serve(hints.port);
    const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(said).toMatch(
      /^HTTP\/1.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1.1 204 None\r\nx-app: 1\r\n/,
    );
    hints.close();
  });

  test('HTTP/2 and HTTP/1.1 are offered, and an app may speak HTTP/2 in the clear', async () => {
    handle = (req, res) => res.end(`over ${req.httpVersion} to ${req.headers.host}`);
    const viaHttp2 = async () => {
      const session = connectHttp2(`https://localhost:${front.port}`, { ca: front.credentials.certificate });
      try {
        const stream = session.request({ ':path': '/', te: 'trailers' });
        return await text(stream);
      } finally {
        session.close();
      }
    };
    expect(await viaHttp2()).toBe(`over 1.1 to localhost:${front.port}`);

    const h2c = createHttp2Server((req, res) =>
      res.end(`over ${req.httpVersion} to ${req.authority}, te ${req.headers.te}`),
    );
    await front.serve(await listenOn(h2c), 'h2c');
    expect(await viaHttp2()).toBe(`over 2.0 to localhost:${front.port}, te trailers`);
    expect((await ask({ headers: { host: 'a.example' } })).body.toString()).toMatch(/^over 2.0 to a.example/);
    h2c.close();
  });
});

/** The body of an answer over HTTP/2, or why there is none. */
async function overHttp2(
  headers: Record<string, string>,
  body?: readonly string[],
  trailers?: Record<string, string>,
): Promise<string> {
  const session = connectHttp2(`https://localhost:${front.port}`, { ca: front.credentials.certificate });
  session.on('error', () => {});
  const stream = session.request(headers, { endStream: body === undefined, waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? {}));
  for (const part of body ?? []) {
    stream.write(part);
    await pause();
  }
  if (body !== undefined) stream.end();
  const said = await text(stream).catch((error: Error) => error.message);
  session.destroy();
  return said;
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

describe('fields after a body', () => {
  const seen: string[] = [];
  const recording = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      seen.push(bytes.toString('latin1'));
      if (seen.join('').endsWith('0\r\n\r\n')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread');
    });
  });
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n';
  const trailer = 'X-Forwarded-For: 6.6.6.6\r\n';
  let port: number;

  beforeAll(async () => {
    port = await listenOn(recording);
  });
  beforeEach(async () => {
    seen.length = 0;
    await front.serve(port);
  });
  afterAll(() => recording.close());

  async function inParts(...parts: string[]): Promise<string> {
    const socket = open_();
    let said = '';
    socket.on('data', (bytes) => {
      said += bytes.toString('latin1');
    });
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => {});
    for (const part of parts) {
      if (!socket.destroyed) socket.write(part);
      await pause();
    }
    await closed;
    return said;
  }

  test.each([
    ['with everything', [`${head}1\r\na\r\n0\r\n${trailer}\r\n`]],
    ['after the head', [head, `1\r\na\r\n0\r\n${trailer}\r\n`]],
    ['after the body', [head, '1\r\na\r\n', `0\r\n${trailer}\r\n`]],
    ['after its last chunk', [head, '1\r\na\r\n0\r\n', `${trailer}\r\n`]],
    ['in pieces', [head, '1\r\na\r\n', '0\r', '\nX-Forwarded-', 'For: 6.6.6.6\r\n\r', '\n']],
    ['without a body', [`${head}0\r\n${trailer}\r\n`]],
  ])('reach no app: they come %s', async (_, parts) => {
    expect(await inParts(...parts)).toMatch(/^HTTP\/1.1 400 /);
    expect(seen.join('')).not.toContain('6.6.6.6');
  });

  test('over HTTP/2 neither, and no app that speaks it gets them', async () => {
    const post = { ':method': 'POST', ':path': '/' };
    const fields = { 'x-forwarded-for': '6.6.6.6' };
    await overHttp2(post, ['a', 'b'], fields);
    await overHttp2({ ...post, 'content-length': '2' }, ['a', 'b'], fields);
    expect(seen.join('')).not.toContain('6.6.6.6');
    expect(seen.join('')).toContain('POST / ');

    const got: unknown[] = [];
    const h2c = createHttp2Server();
    h2c.on('stream', (stream) => {
      stream.on('error', () => {});
      stream.on('trailers', (headers) => got.push(headers)).resume();
      stream.on('end', () => stream.destroyed || stream.respond({}, { endStream: true }));
    });
    await front.serve(await listenOn(h2c), 'h2c');
    await overHttp2({ ...post, 'content-length': '2' }, ['a', 'b'], fields);
    await overHttp2(post, ['a', 'b'], fields);
    await inParts(head, `1\r\na\r\n0\r\n${trailer}\r\n`);
    expect(got).toEqual([]);
    h2c.close();
  });

  test('are missed by nobody who sends none', async () => {
    expect(await inParts(head, '1\r\na\r\n', '0\r\n\r\n')).toMatch(/^HTTP\/1.1 200 [\s\S]*read$/);
    expect(await overHttp2({ ':method': 'POST', ':path': '/' }, ['a', 'b'])).toBe('read');
  });
});

describe('the host of a request', () => {
  test('is one, and the one that its target names', async () => {
    handle = (req, res) =>
      res.end(`${req.url} ${req.rawHeaders.filter((item) => /^host$/i.test(item)).length}`);
    const end = 'Connection: close\r\n\r\n';
    expect(await raw(`GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n${end}`)).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(`GET / HTTP/1.1\r\n${end}`)).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(`GET http://b/ HTTP/1.1\r\nHost: a\r\n${end}`)).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(`GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n${end}`)).toMatch(/^HTTP\/1.1 400 | 1$/);
    // A target in absolute form reaches the app in the usual one.
    expect(await raw(`GET http://a/x?y HTTP/1.1\r\nHost: a\r\n${end}`)).toMatch(/ 200 [\s\S]*\/x\?y 1$/);
    expect(await raw(`GET http://a HTTP/1.1\r\nHost: a\r\n${end}`)).toMatch(/ 200 [\s\S]*\/ 1$/);
    // Whatever version it claims, and whatever scheme.
    expect(await raw(`GET http://a/x?y HTTP/2.0\r\nHost: a\r\n${end}`)).toMatch(/ 200 [\s\S]*\/x\?y 1$/);
    expect(await raw(`GET file://a/x?y HTTP/1.1\r\nHost: a\r\n${end}`)).toMatch(/ 200 [\s\S]*\/x\?y 1$/);
    expect(await overHttp2({ ':scheme': 'file', ':path': '/x?y' })).toBe('/x?y 1');
    expect(await raw(`OPTIONS * HTTP/1.1\r\nHost: a\r\n${end}`)).toMatch(/ 200 [\s\S]*\* 1$/);
    expect(await raw(`CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n${end}`)).toMatch(/^HTTP\/1.1 40[05] /);
    expect(await raw('GET / HTTP/1.0\r\n\r\n')).toMatch(/ 200 [\s\S]*\/ 0$/);
  });

  test("decides which app answers; a name that is nobody's, the first", async () => {
    const other = createServer((_req, res) => res.end('the other app'));
    const upstream = {
      app: 'other',
      host: '127.0.0.1',
      port: await listenOn(other),
      protocol: 'http/1.1' as const,
    };
    handle = (_req, res) => res.end('the first app');
    const first = { app: 'greeting', host: '127.0.0.1', port: appPort, protocol: 'http/1.1' as const };
    await front.apply({
      sites: [
        { domains: ['one.example'], upstream: first },
        { domains: ['two.example', 'also.example'], upstream },
      ],
    });
    const saidTo = async (host: string) => {
      const servername = host.toLowerCase().replace(/:.*/, '');
      return (await ask({ servername, headers: { host } })).body.toString();
    };
    expect(await saidTo('one.example')).toBe('the first app');
    expect(await saidTo('TWO.example:443')).toBe('the other app');
    expect(await saidTo('also.example')).toBe('the other app');
    expect(await saidTo('three.example')).toBe('the first app');
    await front.serve(appPort);
    expect(await saidTo('two.example')).toBe('the first app');
    other.close();
  });
});

describe('TLS', () => {
  test('is modern only, with the post-quantum group where the client has it', async () => {
    const refused = (options: ConnectionOptions) =>
      new Promise((resolve) => {
        open_(options)
          .on('secureConnect', () => resolve('accepted'))
          .on('error', () => resolve('refused'));
      });
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    expect(await refused(old)).toBe('refused');
    expect(await refused({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' })).toBe('refused');
    expect(await refused({ maxVersion: 'TLSv1.2' })).toBe('accepted');
    const socket = open_({ ecdhCurve: 'X25519MLKEM768', ALPNProtocols: ['h2', 'http/1.1'] });
    await new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject));
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(socket.alpnProtocol).toBe('h2');
    socket.destroy();
  });

  test('shows each name its certificate, and the self-signed one to every other', async () => {
    const fingerprint = (seed: number) => new X509Certificate(credentialsOf(seed).certificate).fingerprint256;
    const own = new X509Certificate(front.credentials.certificate).fingerprint256;
    const certificates = [
      { ...pemOf(credentialsOf(0x33)), serverNames: ['one.example'] },
      { ...pemOf(credentialsOf(0x34)), serverNames: ['*.two.example', 'two.example'] },
    ];
    await front.apply({ certificates });
    expect(await front.apply({ certificates })).toEqual([]);
    expect(await shown('one.example')).toBe(fingerprint(0x33));
    expect(await shown('two.example')).toBe(fingerprint(0x34));
    expect(await shown('www.two.example')).toBe(fingerprint(0x34));
    for (const name of ['www.one.example', 'nobody.example', undefined]) expect(await shown(name)).toBe(own);

    // Another certificate, other names, and one gone.
    await front.apply({
      certificates: [{ ...pemOf(credentialsOf(0x35)), serverNames: ['one.example', 'more.example'] }],
    });
    expect(await shown('one.example')).toBe(fingerprint(0x35));
    expect(await shown('more.example')).toBe(fingerprint(0x35));
    expect(await shown('two.example')).toBe(own);
    await front.apply({});
    expect(await shown('one.example')).toBe(own);
  });

  test('changes certificates while visitors come, and loses none of them', async () => {
    handle = (_req, res) => res.end('here');
    let wrong = 0;
    let answered = 0;
    let done = false;
    const visitors = Array.from({ length: 4 }, async () => {
      while (!done) {
        const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
        if (said.endsWith('here')) answered += 1;
        else wrong += 1;
      }
    });
    for (let i = 0; i < 10; i++) {
      await front.apply({
        certificate: pemOf(credentialsOf(0x40 + i)),
        sites: [
          {
            domains: [],
            upstream: { app: 'greeting', host: '127.0.0.1', port: appPort, protocol: 'http/1.1' },
          },
        ],
      });
    }
    done = true;
    await Promise.all(visitors);
    expect(answered).toBeGreaterThan(10);
    expect(wrong).toBe(0);
  });
});

describe('while there is no app', () => {
  test('the page says why and when to look again', async () => {
    await front.serve();
    front.reason = 'greeting: ARCHIVE_MISSING <script>';
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
    await front.serve(1);
    const gone = await ask();
    expect(gone.status).toBe(503);
    expect(gone.headers['retry-after']).toBe('5');
    expect(gone.body.toString()).toContain('does not answer');
    await front.serve(appPort);
    const hasty = await TestFront.start({ times: { answer: 800 } });
    await hasty.serve(appPort);
    handle = () => {};
    expect((await ask({ port: hasty.port })).status).toBe(504);
    await hasty.stop();
    handle = (_req, res) => {
      res.writeHead(200, { 'content-length': '10' });
      res.write('half');
      setTimeout(() => res.destroy(), 50);
    };
    await expect(ask()).rejects.toThrow();
  });

  test('an answer that has begun may be slower than its first byte', async () => {
    const hasty = await TestFront.start({ times: { answer: 4_000 } });
    await hasty.serve(appPort);
    handle = (_req, res) => {
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
    await front.serve(sloppy.port);
    const { status, body } = await ask();
    expect(status).toBe(502);
    expect(body.toString()).toContain('not HTTP');
    sloppy.close();
    handle = (_req, res) => res.end('fine');
    await front.serve(appPort);
    expect((await ask()).body.toString()).toBe('fine');
  });

  test("the node's own paths are no app's", async () => {
    handle = (_req, res) => res.end('the app');
    front.answers = async ({ method, target }) => ({ status: 200, headers: {}, body: `${method} ${target}` });
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
    handle = (req, res) => req.resume().on('end', () => res.end('read'));
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
      const session = connectHttp2(`https://localhost:${front.port}`, { ca: front.credentials.certificate });
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
    handle = (_req, res) => res.end('fine');
    expect((await ask({ headers: { x: 'x'.repeat(14_000) } })).body.toString()).toBe('fine');
  });

  test('connections in all and by source, and a head that never ends', async () => {
    // Whoever is let in stays, however slowly the others come.
    const small = await TestFront.start({
      limits: { perSource: 5, connections: 20 },
      times: { request: 600_000 },
    });
    await small.serve(appPort);
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
    await hasty.serve(appPort);
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
    front.answers = async () => ({ status: 200, headers: {}, body: 'e'.repeat(60_000) });
    const path = '/.well-known/dstack/evidence.json';
    const deaf = connectHttp2('https://localhost', {
      settings: { initialWindowSize: 0 },
      createConnection: () =>
        connect({
          socket: connectTcp({ host: '127.0.0.1', port: front.port, localAddress: '127.0.0.7' }),
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
    front.answers = async ({ method }) => ({ status: 200, headers: {}, body: method });
    const path = '/.well-known/dstack/evidence.json';
    const slow = Array.from({ length: 120 }, (_, number) => {
      const localAddress = `127.0.0.${20 + (number % 20)}`;
      const socket = connect({
        socket: connectTcp({ host: '127.0.0.1', port: front.port, localAddress }),
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
    await shared.serve(appPort);
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

describe('WebSocket and other upgrades', () => {
  const HANDSHAKE =
    'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

  test('bytes pass both ways, until one side is done', async () => {
    const socket = open_();
    socket.write(`${HANDSHAKE}hello`);
    let seen = '';
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
    });
    await vi.waitFor(
      () =>
        expect(seen).toMatch(
          /^HTTP\/1.1 101 [\s\S]*accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=[\s\S]*\r\n\r\nhello$/,
        ),
      PATIENCE,
    );
    socket.write('bye');
    await vi.waitFor(() => expect(seen.endsWith('\r\n\r\nhellobye')).toBe(true), PATIENCE);
    expect(open.size).toBe(1);
    socket.end();
    await vi.waitFor(() => expect(open.size).toBe(0), PATIENCE);
  });

  test('over HTTP/2 as well (RFC 8441)', async () => {
    const session = connectHttp2(`https://localhost:${front.port}`, { ca: front.credentials.certificate });
    await new Promise((resolve) => session.on('remoteSettings', resolve));
    expect(session.remoteSettings.enableConnectProtocol).toBe(true);
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': '/ws',
      'sec-websocket-version': '13',
    });
    let seen = '';
    stream.on('data', (chunk) => {
      seen += chunk.toString();
    });
    const status = await new Promise((resolve) =>
      stream.on('response', (headers) => resolve(headers[':status'])),
    );
    expect(status).toBe(200);
    stream.write('over http/2');
    await vi.waitFor(() => expect(seen).toBe('over http/2'), PATIENCE);
    stream.close();
    session.destroy();
    await vi.waitFor(() => expect(open.size).toBe(0), PATIENCE);
  });

  test('a refusal passes with its headers and its body, and the connection goes on', async () => {
    const refusing = createServer((_req, res) => res.end('a page'));
    refusing.on('upgrade', (_req, socket) =>
      socket
        .on('error', () => {})
        .end(
          'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope',
        ),
    );
    await front.serve(await listenOn(refusing));
    const said = await raw(`${HANDSHAKE}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    expect(said).toMatch(/^HTTP\/1.1 401 No\r\nwww-authenticate: Basic realm="x"\r\n[\s\S]*nope/);
    expect(said).toMatch(/a page$/);
    refusing.close();
    refusing.closeAllConnections();
  });

  test.each(['h2c', 'TLS/1.0', 'websocket, h2c', 'connect-udp'])(
    'an offer of %s is answered without it',
    async (offer) => {
      handle = (req, res) => res.end(`upgrade: ${req.headers.upgrade} ${req.headers['http2-settings']}`);
      const plain = app.listeners('upgrade');
      app.removeAllListeners('upgrade');
      const said = await raw(
        `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: ${offer}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      );
      for (const listener of plain) app.on('upgrade', listener as () => void);
      expect(said).toMatch(/^HTTP\/1.1 200 /);
      expect(said).toMatch(
        offer.startsWith('websocket') ? /upgrade: websocket undefined$/ : /upgrade: undefined undefined$/,
      );
    },
  );

  test('Upgrade without Connection is no offer (RFC 9110, 7.8)', async () => {
    handle = (req, res) => res.end(`upgrade: ${req.headers.upgrade}, connection: ${req.headers.connection}`);
    const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n');
    expect(said).toMatch(/upgrade: undefined, connection: (undefined|close)$/);
  });
});

describe("the driver's hand on it", () => {
  test("nobody gets in before it has the site's key, and again after a crash", async () => {
    const early = await TestFront.start();
    const outcome = () =>
      new Promise((resolve) => {
        connect({ host: '127.0.0.1', port: early.port, rejectUnauthorized: false })
          .on('secureConnect', () => resolve('a certificate'))
          .on('error', () => resolve('nothing'));
      });
    expect(await outcome()).toBe('nothing');
    await early.serve(appPort);
    expect(await outcome()).toBe('a certificate');
    await early.crash();
    expect(await outcome()).toBe('nothing');
    // The same words restore all of it.
    await early.serve(appPort);
    expect(await outcome()).toBe('a certificate');
    await early.stop();
  });

  test('sends only what differs', async () => {
    await front.serve(appPort);
    expect(await front.serve(appPort).then(() => front.apply({}))).toEqual([
      'no site0/http1-a',
      'no site0-uploads/http1-a',
    ]);
    expect(await front.apply({})).toEqual([]);
  });

  test("an app's new address gets all that comes after, over no connection to the old one", async () => {
    const name = (what: string): Server => createServer((_req, res) => res.end(what));
    const [one, two] = [name('one'), name('two')];
    const ports = [await listenOn(one), await listenOn(two)];
    for (let i = 0; i < 6; i++) {
      await front.serve(ports[i % 2]);
      for (let j = 0; j < 3; j++) expect((await ask()).body.toString()).toBe(i % 2 === 0 ? 'one' : 'two');
    }
    one.close();
    two.close();
  });

  test('no visitor notices that an app moves, on new connections, kept ones and over HTTP/2', {
    timeout: 300_000,
  }, async () => {
    const name = (what: string): Server => createServer((_req, res) => res.end(what));
    const apps = [name('one'), name('two'), name('three')];
    const ports = await Promise.all(apps.map(listenOn));
    // One with the image's times: however slow this machine is, they are not what is tested.
    const moving = await TestFront.start();
    const { port } = moving;
    await moving.serve(ports[0]);
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: moving.credentials.certificate });
    const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    const overHttp2 = async (): Promise<string> => {
      const stream = session.request({ ':path': '/' });
      const status = new Promise((resolve) => stream.on('response', (head) => resolve(head[':status'])));
      return `${await status} ${await text(stream)}`;
    };
    const overHttp1 = async (through: Agent | false): Promise<string> => {
      const { status, body } = await ask({ port, agent: through });
      return `${status} ${body}`;
    };
    const ways = [() => overHttp1(false), () => overHttp1(agent), overHttp2];
    const wrong: string[] = [];
    let asked = 0;
    let done = false;
    const visitors = [...ways, ...ways].map(async (visit) => {
      for (; !done; asked++) {
        const said = await visit().catch((error: Error) => error.message);
        if (!/^200 (one|two|three)$/.test(said)) wrong.push(said);
      }
    });
    for (let i = 1; i < 30; i++) {
      await moving.serve(ports[i % 3]);
      // What is asked from now on gets to the new one, whichever connection it comes by.
      const expected = `200 ${['one', 'two', 'three'][i % 3]}`;
      expect(await Promise.all(ways.map((visit) => visit()))).toEqual([expected, expected, expected]);
    }
    done = true;
    await Promise.all(visitors);
    expect(wrong).toEqual([]);
    expect(asked).toBeGreaterThan(100);
    session.destroy();
    agent.destroy();
    await moving.stop();
    for (const one of apps) one.close();
  });

  describe('while an app is being replaced', () => {
    const being: FrontState['sites'][number] = { domains: [], waits: true };

    test('requests wait for the next one, bodies too, and the others do not', async () => {
      const replaced = await TestFront.start();
      const said: string[] = [];
      const next = createServer((req, res) => {
        buffer(req).then((body) => res.end(`next ${body.length}`));
      });
      handle = (_req, res) => res.end('old');
      const port = await listenOn(next);
      const ask2 = (path: string, body?: Buffer): Promise<string> =>
        new Promise((resolve, reject) => {
          const options = { host: '127.0.0.1', port: replaced.port, rejectUnauthorized: false, agent: false };
          const req = request({ ...options, path, method: body ? 'POST' : 'GET' }, (response) => {
            text(response).then((all) => resolve(`${response.statusCode} ${all}`), reject);
          }).on('error', reject);
          req.end(body);
        });
      await replaced.serve(appPort);
      expect(await ask2('/')).toBe('200 old');
      expect(await replaced.apply({ sites: [being] })).toContain('site0 waits');
      const waiting = [ask2('/'), ask2('/upload', Buffer.alloc(300_000))].map((one) =>
        one.then((answer) => said.push(answer)),
      );
      // What is the node's own waits for nobody.
      expect(await ask2('/.well-known/dstack/nothing')).toMatch(/^404 /);
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(said).toEqual([]);
      const upstream = { app: 'greeting', host: '127.0.0.1', port, protocol: 'http/1.1' as const };
      await replaced.apply({ sites: [{ domains: [], upstream }] });
      await Promise.all(waiting);
      expect(said.sort()).toEqual(['200 next 0', '200 next 300000']);
      expect(await ask2('/')).toBe('200 next 0');
      await replaced.stop();
      next.close();
    });

    test('nobody waits for longer than it may take', async () => {
      const replaced = await TestFront.start({ times: { wait: 2_000 } });
      replaced.reason = 'greeting is being replaced';
      await replaced.apply({ sites: [being] });
      const socket = connect({ host: '127.0.0.1', port: replaced.port, rejectUnauthorized: false });
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      const began = performance.now();
      expect(await text(socket)).toMatch(/^HTTP\/1.1 503 [\s\S]*greeting is being replaced/);
      expect(performance.now() - began).toBeGreaterThan(900);
      await replaced.stop();
    });
  });

  test('never leads to an address of the node itself', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4');
    const host = own?.address ?? '';
    // A machine without any network has no such address, and nothing to protect.
    if (host === '') return;
    const upstream = { app: 'greeting', host, port: appPort, protocol: 'http/1.1' as const };
    await expect(front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
  });

  test.each(['0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255'])(
    'never leads to %s, which is no container: the site is without an app then',
    async (host) => {
      handle = (_req, res) => res.end('the app');
      const upstream = { app: 'greeting', host, port: appPort, protocol: 'http/1.1' as const };
      await expect(front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
        code: 'UPSTREAM_OWN',
      });
      expect((await ask()).status).toBe(503);
      await front.serve(appPort);
      expect((await ask()).body.toString()).toBe('the app');
    },
  );

  test('what is refused holds up nothing else: a site that moved is not sent to where it was', async () => {
    const elsewhere = createServer((_req, res) => res.end('its new address'));
    handle = (_req, res) => res.end("another's by now");
    const upstream = {
      app: 'greeting',
      host: '127.0.0.1',
      port: await listenOn(elsewhere),
      protocol: 'http/1.1' as const,
    };
    const wrong = {
      ...pemOf(credentialsOf(0x33)),
      key: pemOf(credentialsOf(0x34)).key,
      serverNames: ['wrong.example'],
    };
    const right = { ...pemOf(credentialsOf(0x35)), serverNames: ['right.example'] };
    const sites = [
      { domains: [], upstream: { ...upstream, host: '0.0.0.0' } },
      { domains: ['moved.example'], upstream },
    ];
    await front.apply({
      sites: sites.map((site) => ({ ...site, upstream: { ...upstream, port: appPort } })),
    });
    const saidTo = async (host: string) => {
      const servername = host.toLowerCase().replace(/:.*/, '');
      return (await ask({ servername, headers: { host } })).body.toString();
    };
    expect(await saidTo('moved.example')).toBe("another's by now");
    await expect(front.apply({ certificates: [wrong, right], sites })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
    expect(await saidTo('moved.example')).toBe('its new address');
    expect((await ask()).status).toBe(503);
    expect(await shown('right.example')).toBe(
      new X509Certificate(credentialsOf(0x35).certificate).fingerprint256,
    );
    // Nor does a certificate that could not be committed keep the site's own from being changed, or a front from opening.
    await front.apply({ certificate: pemOf(credentialsOf(0x36)) });
    expect(await shown()).toBe(new X509Certificate(credentialsOf(0x36).certificate).fingerprint256);
    const early = await TestFront.start();
    await expect(early.apply({ certificates: [wrong], sites })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
    await expect(early.apply({ certificates: [wrong] })).rejects.toMatchObject({ code: 'FRONT_REFUSED' });
    const outcome = await new Promise((resolve) =>
      connect({ host: '127.0.0.1', port: early.port, rejectUnauthorized: false })
        .on('secureConnect', () => resolve('open'))
        .on('error', () => resolve('shut')),
    );
    expect(outcome).toBe('open');
    await early.stop();
    elsewhere.close();
  });

  test('a certificate with other issuers after it is another one', async () => {
    const { chain, key } = pemOf(front.credentials);
    const issuers = async (): Promise<number> => {
      const line = `show ssl cert ${front.description.placeholder}`;
      return (await askFront(front.description.control, { line })).match(/^Chain Subject: /gm)?.length ?? 0;
    };
    await front.apply({ certificate: { chain, key } });
    expect(await issuers()).toBe(0);
    const longer = { chain: `${chain}${credentialsOf(0x55).certificate}`, key };
    expect(await front.apply({ certificate: longer })).toHaveLength(1);
    expect(await issuers()).toBe(1);
    expect(await front.apply({ certificate: longer })).toEqual([]);
    await front.apply({ certificate: { chain, key } });
    expect(await issuers()).toBe(0);
  });

  test.each([
    ['a domain with a command', { domains: ['a.example; shutdown sessions'] }],
    ['a domain with a line', { domains: ['a.example\nshow env'] }],
    ['a domain with a space', { domains: ['a.example site1'] }],
    ['an app with a slash', { upstream: { app: 'a/b', host: '127.0.0.1', port: 1, protocol: 'http/1.1' } }],
    [
      'a host with words',
      { upstream: { app: 'a', host: '127.0.0.1 port 22', port: 1, protocol: 'http/1.1' } },
    ],
    ['a port that is none', { upstream: { app: 'a', host: '127.0.0.1', port: '1;x', protocol: 'http/1.1' } }],
    ['a field that nobody knows', { command: 'show env' }],
  ])('%s is refused', async (_, site) => {
    const sites = [{ domains: [], ...site }] as never;
    await expect(front.apply({ sites })).rejects.toMatchObject({ code: 'FRONT_STATE' });
  });

  test.each(['999.1.1.1', '127.0.0.01', '127.0.0.256', '0177.0.0.1', '127.0.1', '127.0.0.1.'])(
    'the host %s is refused: it is no address, or one that programs read differently',
    async (host) => {
      const upstream = { app: 'a', host, port: 1, protocol: 'http/1.1' as const };
      await expect(front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
        code: 'FRONT_STATE',
      });
    },
  );

  test.each([
    ['names', { serverNames: ['a.example]\nmore'] }],
    ['names with a filter', { serverNames: ['!a.example'] }],
    ['a chain', { chain: 'x\r\n\r\nshow env' }],
    ['a key', { key: '-----BEGIN;' }],
  ])('a certificate with other %s than certificates have is refused', async (_, wrong) => {
    const certificates = [{ ...pemOf(credentialsOf(0x33)), serverNames: ['a.example'], ...wrong }];
    await expect(front.apply({ certificates })).rejects.toMatchObject({ code: 'FRONT_STATE' });
  });

  test("a key that is not the certificate's is refused, and the old one goes on", async () => {
    await front.apply({});
    const mixed = { ...pemOf(credentialsOf(0x33)), key: pemOf(credentialsOf(0x34)).key };
    await expect(front.apply({ certificate: mixed })).rejects.toMatchObject({ code: 'FRONT_REFUSED' });
    expect(await shown()).toBe(new X509Certificate(front.credentials.certificate).fingerprint256);
    expect(await front.apply({})).toEqual([]);
  });

  test.each([
    ['show env\nshow env', undefined],
    ['show env; show env', undefined],
    ['show env', 'x\n\nshow env'],
    ['show env', ''],
  ])('one command stays one: %j with %j is refused', async (line, payload) => {
    const command = payload === undefined ? { line } : { line, payload };
    await expect(askFront(front.description.control, command)).rejects.toMatchObject({
      code: 'FRONT_COMMAND',
    });
  });

  test('the key is in no file', async () => {
    await front.serve(appPort);
    expect(
      await askFront(front.description.control, {
        line: `show ssl crt-list ${certificateList(front.description)}`,
      }),
    ).toContain(front.description.placeholder);
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(front.description.placeholder, 'utf8')).not.toContain(
      pemOf(front.credentials).key.slice(30, 100),
    );
  });
});
