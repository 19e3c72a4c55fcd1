/**
 * Request smuggling against the front as a black box: every method with every framing, over HTTP/1.1 and HTTP/2, plain and as
 * a WebSocket handshake, before apps that read requests strictly, loosely, or with an answer of their own. Beside the attacker,
 * visitors ask for what is theirs, again and again: nobody may get another's answer, and no app may see a request that nobody
 * made for it.
 */
import { createServer as createHttpServer } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request } from 'node:https';
import { createServer, type Server, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { credentialsOf, listenOn, TestFront } from '../../test/support/front.ts';

/** What the attacker would have somebody else's request be. */
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Visitor: evil\r\n\r\n';
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'PROPFIND'];
const UPGRADE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
const size = (body: string): string => `Content-Length: ${body.length}`;
const chunk = (body: string): string => `${body.length.toString(16)}\r\n${body}\r\n`;

/** Headers and body, by what is odd about them. The body holds a request, where it can. */
const FRAMINGS: Readonly<Record<string, readonly [headers: string, body: string]>> = {
  'no body': ['', ''],
  'a length': [size(SMUGGLED), SMUGGLED],
  'a body without a length': ['X: 1', SMUGGLED],
  chunks: ['Transfer-Encoding: chunked', `${chunk(SMUGGLED)}0\r\n\r\n`],
  'chunks with an extension': ['Transfer-Encoding: chunked', `5;x="\r\n${'a'.repeat(5)}\r\n0\r\n\r\n`],
  'chunks with trailers': [
    'Transfer-Encoding: chunked',
    '1\r\na\r\n0\r\nContent-Length: 50\r\nX-Visitor: evil\r\n\r\n',
  ],
  'both, chunks end first': [
    `${size(`0\r\n\r\n${SMUGGLED}`)}\r\nTransfer-Encoding: chunked`,
    `0\r\n\r\n${SMUGGLED}`,
  ],
  'both, the length ends first': [
    `Content-Length: 4\r\nTransfer-Encoding: chunked`,
    `${chunk(SMUGGLED)}0\r\n\r\n`,
  ],
  'two lengths': [`Content-Length: 0\r\n${size(SMUGGLED)}`, SMUGGLED],
  'the same length twice': [`${size(SMUGGLED)}\r\n${size(SMUGGLED)}`, SMUGGLED],
  'a list of lengths': [`Content-Length: 0, ${SMUGGLED.length}`, SMUGGLED],
  'a length with a sign': [`Content-Length: +${SMUGGLED.length}`, SMUGGLED],
  'a length with a point': [`Content-Length: ${SMUGGLED.length}.0`, SMUGGLED],
  'a length in hexadecimal': [`Content-Length: 0x${SMUGGLED.length.toString(16)}`, SMUGGLED],
  'a length below zero': ['Content-Length: -1', SMUGGLED],
  'a length beyond all': ['Content-Length: 99999999999999999999', SMUGGLED],
  'an empty length': ['Content-Length:', SMUGGLED],
  'a length of zero': ['Content-Length: 0', SMUGGLED],
  'a folded length': [`Content-Length:\r\n ${SMUGGLED.length}`, SMUGGLED],
  'a folded coding': ['Transfer-Encoding:\r\n chunked', `${chunk(SMUGGLED)}0\r\n\r\n`],
  'a folded header': [`X: 1\r\n Content-Length: 0\r\n${size(SMUGGLED)}`, SMUGGLED],
  'chunk sizes with 0x': ['Transfer-Encoding: chunked', `0x${chunk(SMUGGLED)}0\r\n\r\n`],
  'chunk sizes with a sign': ['Transfer-Encoding: chunked', `-${chunk(SMUGGLED)}0\r\n\r\n`],
  'chunk sizes with a space': [
    'Transfer-Encoding: chunked',
    `${SMUGGLED.length.toString(16)} \r\n${SMUGGLED}\r\n0\r\n\r\n`,
  ],
  'chunk sizes beyond all': ['Transfer-Encoding: chunked', `ffffffffffffffff1\r\n${SMUGGLED}\r\n0\r\n\r\n`],
  'an empty chunk size': ['Transfer-Encoding: chunked', `\r\n${SMUGGLED}\r\n0\r\n\r\n`],
  'chunks that end in LF': ['Transfer-Encoding: chunked', `5\naaaaa\n0\n\n${SMUGGLED}`],
  'a chunk longer than it says': ['Transfer-Encoding: chunked', `2\r\n${SMUGGLED}\r\n0\r\n\r\n`],
  'chunks that never end': ['Transfer-Encoding: chunked', chunk(SMUGGLED)],
  'a coding in capitals': ['Transfer-Encoding: CHUNKED', `${chunk(SMUGGLED)}0\r\n\r\n`],
  'a coding with a vertical tab': ['Transfer-Encoding: \x0bchunked', `0\r\n\r\n${SMUGGLED}`],
  'a coding with a tab': ['Transfer-Encoding:\tchunked', `0\r\n\r\n${SMUGGLED}`],
  "a coding before its colon's space": [
    `Transfer-Encoding : chunked\r\n${size(`0\r\n\r\n${SMUGGLED}`)}`,
    `0\r\n\r\n${SMUGGLED}`,
  ],
  'a coding that is almost chunked': [
    `Transfer-Encoding: xchunked\r\n${size(`0\r\n\r\n${SMUGGLED}`)}`,
    `0\r\n\r\n${SMUGGLED}`,
  ],
  'a coding in quotes': [
    `Transfer-Encoding: "chunked"\r\n${size(`0\r\n\r\n${SMUGGLED}`)}`,
    `0\r\n\r\n${SMUGGLED}`,
  ],
  'chunked, identity': ['Transfer-Encoding: chunked, identity', `0\r\n\r\n${SMUGGLED}`],
  'identity, chunked': ['Transfer-Encoding: identity, chunked', `0\r\n\r\n${SMUGGLED}`],
  'gzip, chunked': ['Transfer-Encoding: gzip, chunked', `${chunk(SMUGGLED)}0\r\n\r\n`],
  'chunked twice': ['Transfer-Encoding: chunked, chunked', `0\r\n\r\n${SMUGGLED}`],
  'two codings': ['Transfer-Encoding: chunked\r\nTransfer-Encoding: identity', `0\r\n\r\n${SMUGGLED}`],
  'a coding that is not known': ['Transfer-Encoding: cow', `0\r\n\r\n${SMUGGLED}`],
  'a coding with an underscore': [
    `Transfer_Encoding: chunked\r\n${size(`0\r\n\r\n${SMUGGLED}`)}`,
    `0\r\n\r\n${SMUGGLED}`,
  ],
  'a coding that Connection drops': [
    'Connection: transfer-encoding\r\nTransfer-Encoding: chunked',
    `${chunk(SMUGGLED)}0\r\n\r\n`,
  ],
  'a length that Connection drops': [`Connection: content-length\r\n${size(SMUGGLED)}`, SMUGGLED],
  'a carriage return in a value': [`X: a\rContent-Length: 0\r\n${size(SMUGGLED)}`, SMUGGLED],
  'a zero in a value': [`X: a\0\r\n${size(SMUGGLED)}`, SMUGGLED],
  'expecting to go on': [`Expect: 100-continue\r\n${size(SMUGGLED)}`, SMUGGLED],
  'a request after it': ['', SMUGGLED.replace('evil', 'attacker').replace('/smuggled', '/own')],
};

/** What an app saw, and an app itself; each reads requests in its way. */
interface App {
  server: Server;
  seen: string[];
}

/** Node's own parser, which is strict. Says who asked, once it has all of the request. */
function strictApp(): App {
  const seen: string[] = [];
  const server = createHttpServer((req, res) => {
    seen.push(req.url ?? '');
    text(req).then(
      () => res.end(`for ${req.headers['x-visitor']}`),
      () => res.destroy(),
    );
  });
  server.on('upgrade', (req, socket) => {
    seen.push(req.url ?? '');
    socket.on('error', () => {});
    socket.end(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n',
    );
  });
  return { server, seen };
}

/** Takes everything behind a head for the next request, whatever the head says of a body: what many apps do for a GET. */
function looseApp(): App {
  const seen: string[] = [];
  const server = createServer((socket) => {
    let buffered = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      buffered += bytes.toString('latin1');
      for (;;) {
        const end = buffered.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = buffered.slice(0, end);
        buffered = buffered.slice(end + 4);
        if (!/^[A-Z]+ \S+ HTTP\/1\.[01]\r\n/.test(head)) continue;
        const visitor = /^x-visitor: (.*)$/im.exec(head)?.[1] ?? 'nobody';
        const body = /^HEAD /.test(head) ? '' : `for ${visitor.trim()}`;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${`for ${visitor.trim()}`.length}\r\n\r\n${body}`);
      }
    });
  });
  return { server, seen };
}

/** Visitors who ask all the while; `mixed` is what they got that was not theirs. */
class Visitors {
  answered = 0;
  readonly mixed: string[] = [];
  readonly #port: number;
  #stopped = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(port: number) {
    this.#port = port;
  }

  start(): void {
    this.#running = Promise.all([
      this.#http1('ann'),
      this.#http1('bob'),
      this.#http2('cleo'),
      this.#http2('dan'),
    ]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  #judge(name: string, status: number | undefined, body: string): void {
    if (status === 200 && body === `for ${name}`) this.answered += 1;
    else this.mixed.push(`${name} got ${status} ${body.slice(0, 200)}`);
  }

  async #http1(name: string): Promise<void> {
    while (!this.#stopped) {
      await new Promise<void>((resolve) => {
        const options = { host: '127.0.0.1', port: this.#port, rejectUnauthorized: false, agent: false };
        request({ ...options, path: `/of-${name}`, headers: { 'x-visitor': name } }, (response) => {
          text(response)
            .then((body) => this.#judge(name, response.statusCode, body))
            .finally(resolve);
        })
          .on('error', (error) => {
            this.mixed.push(`${name}: ${error.message}`);
            resolve();
          })
          .end();
      });
    }
  }

  async #http2(name: string): Promise<void> {
    const session = connectHttp2(`https://127.0.0.1:${this.#port}`, { rejectUnauthorized: false });
    session.on('error', (error) => this.mixed.push(`${name}: ${error.message}`));
    while (!this.#stopped) {
      const stream = session.request({ ':path': `/of-${name}`, 'x-visitor': name });
      let status: number | undefined;
      stream.on('response', (headers) => {
        status = headers[':status'];
      });
      const body = await text(stream).catch((error: Error) => error.message);
      this.#judge(name, status, body);
    }
    session.destroy();
  }
}

/** Sends these bytes, waits a moment for what comes, and goes. */
function attack(port: number, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let seen = '';
    const socket: Socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
      socket.write(bytes, 'latin1');
      setTimeout(() => socket.destroy(), 150);
    });
    socket.on('data', (data: Buffer) => {
      seen += data.toString('latin1');
    });
    socket.on('error', () => {}).on('close', () => resolve(seen));
  });
}

/**
 * The same over HTTP/2, frame by frame, since a proper client does not send what is forbidden: RFC 9113, section 4; headers as
 * literals without an index (RFC 7541, 6.2.2).
 */
function attackHttp2(
  port: number,
  headers: readonly (readonly [string, string])[],
  body: string,
): Promise<void> {
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const string = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1');
    // An integer of a prefix of 7 bits (RFC 7541, 5.1); nothing here is longer than two bytes of it say.
    const length =
      bytes.length < 127
        ? [bytes.length]
        : [127, ((bytes.length - 127) & 127) | 128, (bytes.length - 127) >> 7];
    return Buffer.concat([Buffer.from(length), bytes]);
  };
  const block = Buffer.concat(
    headers.flatMap(([name, value]) => [Buffer.of(0), string(name), string(value)]),
  );
  const [SETTINGS, HEADERS, DATA, END_STREAM, END_HEADERS] = [4, 1, 0, 1, 4];
  return new Promise((resolve) => {
    const socket: Socket = connect(
      { port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] },
      () => {
        socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
        socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
        socket.write(frame(HEADERS, END_HEADERS, 1, block));
        socket.write(frame(DATA, END_STREAM, 1, Buffer.from(body, 'latin1')));
        setTimeout(() => socket.destroy(), 150);
      },
    );
    socket.resume();
    socket.on('error', () => {}).on('close', () => resolve());
  });
}

/** Headers beyond the pseudo-headers, or instead of them. */
const HTTP2_HEADERS: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  'no length': [],
  'its length': [['content-length', `${SMUGGLED.length}`]],
  'a shorter length': [['content-length', '4']],
  'a length of zero': [['content-length', '0']],
  'a longer length': [['content-length', '500']],
  'two lengths': [
    ['content-length', '4'],
    ['content-length', `${SMUGGLED.length}`],
  ],
  'a length that is none': [['content-length', '4x']],
  'a coding': [['transfer-encoding', 'chunked']],
  'a coding and a length': [
    ['transfer-encoding', 'chunked'],
    ['content-length', `${SMUGGLED.length}`],
  ],
  "a connection's header": [['connection', 'x-visitor']],
  'an upgrade': [
    ['upgrade', 'websocket'],
    ['connection', 'upgrade'],
  ],
  'a line in a value': [['x-a', 'b\r\ncontent-length: 0']],
  'an end in a value': [['x-a', `b\r\n\r\n${SMUGGLED}`]],
  'a zero in a value': [['x-a', 'b\0c']],
  'a line in a name': [['x-a: b\r\ncontent-length', '0']],
  'a colon in a name': [['content-length:', '0']],
  'a space in a name': [['content-length ', '0']],
  'a name in capitals': [['Content-Length', '0']],
  'an end in a path': [[':path', `/ HTTP/1.1\r\nHost: a\r\n\r\n${SMUGGLED}`]],
  'a space in a path': [[':path', '/x HTTP/1.1 /y']],
  'an end in a method': [[':method', `GET / HTTP/1.1\r\nHost: a\r\n\r\n${SMUGGLED}`]],
  'a space in a method': [[':method', 'GET /smuggled']],
  'an end in an authority': [[':authority', 'a\r\nx-visitor: evil']],
  'an authority that is not its host': [['host', 'b']],
  'two authorities': [[':authority', 'b']],
  'an extended CONNECT': [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
  ],
  'an extended CONNECT to something else': [
    [':method', 'CONNECT'],
    [':protocol', 'connect-udp'],
  ],
  'a scheme with an end': [[':scheme', `https://a/ HTTP/1.1\r\nHost: a\r\n\r\n${SMUGGLED}`]],
};

/** The pseudo-headers come first, and a case's own take the place of ours, but for a second authority. */
function http2Request(method: string, name: string): (readonly [string, string])[] {
  const more = HTTP2_HEADERS[name]!;
  const usual: (readonly [string, string])[] = [
    [':method', method],
    [':scheme', 'https'],
    [':authority', 'a'],
    [':path', '/attack'],
  ];
  const replaced = new Set(more.map(([key]) => key).filter(() => name !== 'two authorities'));
  const pseudo = more.filter(([key]) => key.startsWith(':'));
  const others = more.filter(([key]) => !key.startsWith(':'));
  return [...usual.filter(([key]) => !replaced.has(key)), ...pseudo, ['x-visitor', 'attacker'], ...others];
}

const apps = { strict: strictApp(), loose: looseApp() };
const ports: Record<string, number> = {};
let front: TestFront;

beforeAll(async () => {
  for (const [name, { server }] of Object.entries(apps)) ports[name] = await listenOn(server);
  front = await TestFront.start({ times: { request: 15_000, answer: 30_000, client: 15_000 } });
});
afterAll(async () => {
  await front.stop();
  for (const { server } of Object.values(apps)) server.close();
});

/** @returns what was mixed among the visitors while `attacks` were made, eight at a time */
async function besides(attacks: readonly (() => Promise<unknown>)[]): Promise<Visitors> {
  const visitors = new Visitors(front.port);
  visitors.start();
  const left = [...attacks];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) await next();
    }),
  );
  await visitors.stop();
  return visitors;
}

describe.each(['strict', 'loose'] as const)('before an app that reads in a %s way', (kind) => {
  beforeAll(() => front.serve(ports[kind]));

  test.each([
    ['plain', ''],
    ['as a WebSocket handshake', UPGRADE],
  ])('HTTP/1.1, %s: every method with every framing mixes nobody', { timeout: 300_000 }, async (_, more) => {
    apps[kind].seen.length = 0;
    const attacks = METHODS.flatMap((method) =>
      Object.values(FRAMINGS).map(([headers, body]) => () => {
        const head = `${method} /attack HTTP/1.1\r\nHost: a\r\nX-Visitor: attacker\r\n${more}${headers}`;
        return attack(front.port, `${head.trimEnd()}\r\n\r\n${body}`);
      }),
    );
    const { mixed, answered } = await besides(attacks);
    expect(mixed).toEqual([]);
    expect(answered).toBeGreaterThan(50);
    if (kind === 'strict') {
      // A request that the attacker sent whole, behind another one, is a request; of a body nothing may become one.
      const strangers = new Set(
        apps.strict.seen.filter((path) => !/^\/(attack|own|smuggled|of-\w+)$/.test(path)),
      );
      expect([...strangers]).toEqual([]);
    }
  });

  test('HTTP/2: every method with every framing mixes nobody', { timeout: 300_000 }, async () => {
    const attacks = [...METHODS, 'CONNECT'].flatMap((method) =>
      Object.keys(HTTP2_HEADERS).map(
        (name) => () => attackHttp2(front.port, http2Request(method, name), SMUGGLED),
      ),
    );
    apps.strict.seen.length = 0;
    const { mixed, answered } = await besides(attacks);
    expect(mixed).toEqual([]);
    expect(answered).toBeGreaterThan(50);
    // Whatever a frame of data holds, it is no request.
    expect(apps.strict.seen).not.toContain('/smuggled');
  });
});

describe("a body is nobody's request", () => {
  beforeAll(() => front.serve(ports.strict));

  test.each(METHODS.filter((method) => method !== 'TRACE'))('of %s, however it is framed', async (method) => {
    for (const name of [
      'a length',
      'chunks',
      'both, the length ends first',
      'a length that Connection drops',
      'a coding that Connection drops',
    ]) {
      for (const more of ['', UPGRADE]) {
        apps.strict.seen.length = 0;
        const [headers, body] = FRAMINGS[name]!;
        await attack(front.port, `${method} /attack HTTP/1.1\r\nHost: a\r\n${more}${headers}\r\n\r\n${body}`);
        expect(
          apps.strict.seen.filter((path) => path !== '/attack'),
          `${name} ${more}`,
        ).toEqual([]);
      }
    }
  });
});

/** Bytes that an app answers each request with, by what is odd about them. */
const ANSWERS: Readonly<Record<string, string>> = {
  'more than it said':
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL',
  'less than it said': 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok',
  'no framing': 'HTTP/1.1 200 OK\r\n\r\nok',
  'two lengths':
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 60\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL',
  'a length and chunks':
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL',
  'a broken chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n',
  'a status line that is none': 'HTTP/1.1 twohundred OK\r\n\r\nok',
  'a status of 999': 'HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok',
  'a status of 0': 'HTTP/1.1 000 \r\nContent-Length: 2\r\n\r\nok',
  'a reason with strange bytes': 'HTTP/1.1 200 \x01\x7f\xff\r\nContent-Length: 2\r\n\r\nok',
  'HTTP/0.9': 'ok',
  'HTTP/3.0': 'HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok',
  nothing: '',
  'an unasked switch':
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL',
  'a body where there is none': 'HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL',
  'not modified, with a body': 'HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nEVIL',
  'hints without end': 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(200),
  'headers without end': `HTTP/1.1 200 OK\r\n${'X: 1\r\n'.repeat(20_000)}`,
  'a header without a name': 'HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 2\r\n\r\nok',
  'a zero in a header': 'HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok',
};

describe('an app that answers oddly', () => {
  test.each([true, false])(
    'hurts its own visitors only, and the front goes on (it hangs up: %s)',
    { timeout: 300_000 },
    async (hangsUp) => {
      let answer = '';
      const odd = createServer((socket) => {
        socket.on('error', () => {});
        socket.on('data', () => (hangsUp ? socket.end(answer, 'latin1') : socket.write(answer, 'latin1')));
      });
      const upstream = (port: number, app: string) => ({
        app,
        host: '127.0.0.1',
        port,
        protocol: 'http/1.1' as const,
      });
      await front.apply({
        sites: [
          { domains: [], upstream: upstream(ports.strict!, 'fine') },
          { domains: ['odd.example'], upstream: upstream(await listenOn(odd), 'odd') },
        ],
      });
      const pid = front.haproxy.pid;
      for (const [name, bytes] of Object.entries(ANSWERS)) {
        answer = bytes;
        const attacks = Array.from(
          { length: 12 },
          () => () => attack(front.port, 'GET /x HTTP/1.1\r\nHost: odd.example\r\n\r\n'.repeat(2)),
        );
        const { mixed, answered } = await besides(attacks);
        expect(mixed, name).toEqual([]);
        expect(answered, name).toBeGreaterThan(5);
      }
      expect(front.haproxy.exitCode).toBe(null);
      expect(front.haproxy.pid).toBe(pid);
      odd.close();
    },
  );
});

test('the visitors of this test would notice: an app before a front that shares its connections mixes them', {
  timeout: 300_000,
}, async () => {
  const sharing = await TestFront.start({}, (configuration) =>
    configuration.replace('http-reuse never', 'http-reuse always'),
  );
  await sharing.serve(ports.loose);
  expect(sharing.credentials.fingerprint).toBe(credentialsOf(0x11).fingerprint);
  const visitors = new Visitors(sharing.port);
  visitors.start();
  const [headers, body] = FRAMINGS['a length']!;
  for (let i = 0; i < 50 && visitors.mixed.length === 0; i++) {
    await attack(
      sharing.port,
      `GET /attack HTTP/1.1\r\nHost: a\r\nX-Visitor: attacker\r\n${headers}\r\n\r\n${body}`,
    );
  }
  await visitors.stop();
  expect(visitors.mixed.length).toBeGreaterThan(0);
  await sharing.stop();
});
