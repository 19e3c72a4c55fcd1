import { createServer } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { listenOn } from '../../test/support/front.ts';
import { Fronted, PATIENCE, pause, saying } from './front.fixture.ts';

const fronted = Fronted.forAllTests();
const { ask, dial, raw, overHttp2 } = fronted;

describe('requests and answers', () => {
  test('pass, streaming', async () => {
    fronted.handle = (req, res) => {
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
    fronted.handle = (req, res) => res.end(JSON.stringify(req.headers));
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
      fronted.handle = (req, res) => res.end(JSON.stringify(req.rawHeaders));
      const { body } = await ask({ headers: { [name]: '66', 'x-kept': '1' } });
      expect(body.toString()).toContain('x-kept');
      expect(body.toString()).not.toContain('"66"');
    },
  );

  test("a connection's own headers end at the front, the app's too; what frames a message is nobody's to drop", async () => {
    fronted.handle = (_req, res) => {
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

    fronted.handle = (req, res) => text(req).then((body) => res.end(`${req.headers.host} ${body}`));
    const said = await raw(
      'POST / HTTP/1.1\r\nHost: a\r\nConnection: close, host, content-length\r\nContent-Length: 5\r\n\r\nabcde',
    );
    expect(said).toMatch(/ 200 [\s\S]*a abcde/);
  });

  test('early hints, and answers without a body, pass as they are', async () => {
    const hints = await saying(
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 None\r\nX-App: 1\r\n\r\n',
    );
    await fronted.front.serve(hints.port);
    const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(said).toMatch(
      /^HTTP\/1.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1.1 204 None\r\nx-app: 1\r\n/,
    );
    hints.close();
  });

  test('HTTP/2 and HTTP/1.1 are offered, and an app may speak HTTP/2 in the clear', async () => {
    fronted.handle = (req, res) => res.end(`over ${req.httpVersion} to ${req.headers.host}`);
    const viaHttp2 = async () => {
      const session = connectHttp2(`https://localhost:${fronted.front.port}`, {
        ca: fronted.front.credentials.certificate,
      });
      try {
        const stream = session.request({ ':path': '/', te: 'trailers' });
        return await text(stream);
      } finally {
        session.close();
      }
    };
    expect(await viaHttp2()).toBe(`over 1.1 to localhost:${fronted.front.port}`);

    const h2c = createHttp2Server((req, res) =>
      res.end(`over ${req.httpVersion} to ${req.authority}, te ${req.headers.te}`),
    );
    await fronted.front.serve(await listenOn(h2c), 'h2c');
    expect(await viaHttp2()).toBe(`over 2.0 to localhost:${fronted.front.port}, te trailers`);
    expect((await ask({ headers: { host: 'a.example' } })).body.toString()).toMatch(/^over 2.0 to a.example/);
    h2c.close();
  });
});

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
    await fronted.front.serve(port);
  });
  afterAll(() => recording.close());

  async function inParts(...parts: string[]): Promise<string> {
    const socket = dial();
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
    await fronted.front.serve(await listenOn(h2c), 'h2c');
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
    fronted.handle = (req, res) =>
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
    fronted.handle = (_req, res) => res.end('the first app');
    const first = { app: 'greeting', host: '127.0.0.1', port: fronted.port, protocol: 'http/1.1' as const };
    await fronted.front.apply({
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
    await fronted.front.serve(fronted.port);
    expect(await saidTo('two.example')).toBe('the first app');
    other.close();
  });
});

describe('WebSocket and other upgrades', () => {
  const HANDSHAKE =
    'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

  test('bytes pass both ways, until one side is done', async () => {
    const socket = dial();
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
    expect(fronted.webSockets.size).toBe(1);
    socket.end();
    await vi.waitFor(() => expect(fronted.webSockets.size).toBe(0), PATIENCE);
  });

  test('over HTTP/2 as well (RFC 8441)', async () => {
    const session = connectHttp2(`https://localhost:${fronted.front.port}`, {
      ca: fronted.front.credentials.certificate,
    });
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
    await vi.waitFor(() => expect(fronted.webSockets.size).toBe(0), PATIENCE);
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
    await fronted.front.serve(await listenOn(refusing));
    const said = await raw(`${HANDSHAKE}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    expect(said).toMatch(/^HTTP\/1.1 401 No\r\nwww-authenticate: Basic realm="x"\r\n[\s\S]*nope/);
    expect(said).toMatch(/a page$/);
    refusing.close();
    refusing.closeAllConnections();
  });

  test.each(['h2c', 'TLS/1.0', 'websocket, h2c', 'connect-udp'])(
    'an offer of %s is answered without it',
    async (offer) => {
      fronted.handle = (req, res) =>
        res.end(`upgrade: ${req.headers.upgrade} ${req.headers['http2-settings']}`);
      const plain = fronted.app.listeners('upgrade');
      fronted.app.removeAllListeners('upgrade');
      const said = await raw(
        `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: ${offer}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      );
      for (const listener of plain) fronted.app.on('upgrade', listener as () => void);
      expect(said).toMatch(/^HTTP\/1.1 200 /);
      expect(said).toMatch(
        offer.startsWith('websocket') ? /upgrade: websocket undefined$/ : /upgrade: undefined undefined$/,
      );
    },
  );

  test('Upgrade without Connection is no offer (RFC 9110, 7.8)', async () => {
    fronted.handle = (req, res) =>
      res.end(`upgrade: ${req.headers.upgrade}, connection: ${req.headers.connection}`);
    const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n');
    expect(said).toMatch(/upgrade: undefined, connection: (undefined|close)$/);
  });
});
