import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer, text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { AGENT_API, appId } from '../../lib/protocol/manifest.ts';
import type { ContainersReply } from '../../lib/protocol/sockets.ts';
import { attestationDigest } from '../../lib/protocol/typed-data.ts';
import { REMEMBERED } from '../bridges.ts';
import { Callers } from '../callers.ts';
import { listenAt } from '../listen.ts';
import { parseQuestion } from './guards.ts';
import { Refusals } from './refusals.ts';
import { agentServer, sayings } from './server.ts';
import type { Siblings } from './siblings.ts';
import { Turns } from './turns.ts';

const contract = `0x${'c0'.repeat(20)}`;
const hash = 'aa'.repeat(32);
const info = {
  chainId: 31337,
  contract,
  networkKey: contract,
  epoch: 1,
  config: hash,
  measurement: hash,
  platform: hash,
  flavour: 'sim',
};
const keyOf = (app: string, tag: string): string => toHex(sha256(utf8(`${app}/${tag}`)));

/** Two apps on loopback addresses; 127.0.0.9 belongs to none, 127.0.0.3 arrives on the wrong bridge. */
const why = 'the network has run another manifest for longer than a day';
const all = { manifestHash: parseHex(hash), container: 'web', gateway: '127.0.0.1', api: [...AGENT_API] };
const manifests = [parseHex(hash)];
const containers: ContainersReply['containers'] = [
  { ...all, app: 'greeting', address: '127.0.0.2' },
  { ...all, app: 'other', address: '127.0.0.4' },
  { ...all, app: 'greeting', address: '127.0.0.3', gateway: '10.90.0.1' },
  { ...all, app: 'greeting', address: '127.0.0.5', ended: { code: 'APP_SUPERSEDED', message: why } },
  { ...all, app: 'greeting', address: '127.0.0.6', ended: { code: 'APP_CHAIN_STALE', message: why } },
  { ...all, app: 'quiet', address: '127.0.0.11', api: [] },
  { ...all, app: 'quiet', address: '127.0.0.12', api: ['key'] },
  { ...all, app: 'quiet', address: '127.0.0.13', api: ['attest'] },
  { ...all, app: 'quiet', address: '127.0.0.14', api: ['info'] },
];

const root = mkdtempSync(join(tmpdir(), 'dstack-agent-'));
const servers: Server[] = [];
const asked: unknown[] = [];
let agent: ChildProcess;
let port = 0;

beforeAll(async () => {
  const run = join(root, 'run/dstack');
  for (const folder of ['replicator', 'kubernethes', 'disk'])
    mkdirSync(join(run, folder), { recursive: true });
  const serve = async (socket: string, routes: Parameters<typeof serveUnix>[0]['routes']) =>
    servers.push(await serveUnix({ path: join(run, socket), routes }));
  await serve('kubernethes/agent.sock', { 'GET /v1/containers': () => ({ containers, manifests }) });
  await serve('disk/status.sock', {
    'GET /v1/status': () => ({ state: 'ready', diskId: 'ab'.repeat(16), seconds: 1 }),
  });
  await serve('replicator/agent.sock', {
    'GET /v1/info': () => info,
    'POST /v1/app-key': (body) => {
      asked.push(body);
      const { app, tag } = body as { app: string; tag: string };
      return { key: keyOf(app, tag) };
    },
    'POST /v1/attest': (body) => {
      asked.push(body);
      return { signature: `1b${'11'.repeat(64)}` };
    },
  });
  agent = spawn(process.execPath, [
    join(import.meta.dirname, 'main.ts'),
    '--root',
    root,
    '--listen',
    '127.0.0.1:0',
  ]);
  for await (const line of createInterface(agent.stdout!)) {
    port = (JSON.parse(line) as { address: { port: number } }).address.port;
    break;
  }
  agent.stdout!.resume();
});

afterAll(async () => {
  agent.kill();
  for (const server of servers) server.close();
  rmSync(root, { recursive: true });
});

async function ask(path: string, from = '127.0.0.2', headers: Record<string, string> = {}, method = 'GET') {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = { host: '127.0.0.1', port, localAddress: from, path, method, agent: false };
    request({ ...options, headers: { host: 'dstack-guest', ...headers } }, resolve)
      .on('error', reject)
      .end();
  });
  return {
    status: response.statusCode,
    type: response.headers['content-type'],
    body: await buffer(response),
  };
}

const codeFrom = async (...args: Parameters<typeof ask>): Promise<string> => {
  const { status, body } = await ask(...args);
  return status === 200 ? 'answered' : (JSON.parse(body.toString()) as { code: string }).code;
};

describe('the agent, as a process', () => {
  test("gives an app its own keys and nobody else's", async () => {
    const mine = await ask('/getkey/greeting');
    expect(mine.type).toContain('text/plain');
    expect(mine.body.toString()).toBe(keyOf('greeting', 'greeting'));
    expect((await ask('/getkey/greeting', '127.0.0.4')).body.toString()).toBe(keyOf('other', 'greeting'));
  });

  test('whatever a request says, the app that is asked for is the one that asks', async () => {
    asked.length = 0;
    const tries = [
      '/getkey/x?app=other',
      '/getkey/other%2Fx',
      '/getkey/../other/x',
      '/getkey/other/x',
      '/getkey//x',
      '/getkey/x/',
    ];
    for (const path of tries) expect(await codeFrom(path)).toMatch(/^(NO_ROUTE|BAD_TAG)$/);
    await ask('/getkey/x', '127.0.0.2', { 'x-app': 'other', cookie: 'app=other' });
    expect(asked).toEqual([{ app: 'greeting', tag: 'x' }]);
  });

  test('a container gets what its manifest lets it ask for, whatever others of its app may', async () => {
    asked.length = 0;
    const paths = ['/info', '/getkey/x', '/attest/x/00', '/appdata/x/00'];
    const answered = async (from: string) => {
      const codes = await Promise.all(paths.map((path) => codeFrom(path, from)));
      expect(codes.filter((code) => code !== 'answered' && code !== 'API_NOT_GRANTED')).toEqual([]);
      return paths.filter((_, index) => codes[index] === 'answered');
    };
    expect(await answered('127.0.0.11')).toEqual([]);
    expect(asked).toEqual([]);
    expect(await answered('127.0.0.12')).toEqual(['/getkey/x']);
    expect(await answered('127.0.0.13')).toEqual(['/attest/x/00', '/appdata/x/00']);
    expect(await answered('127.0.0.14')).toEqual(['/info']);
    const { status, body } = await ask('/getkey/x', '127.0.0.11');
    expect(status).toBe(403);
    expect(JSON.parse(body.toString()).message).toContain('its api needs "key"');
  });

  test('attests: 65 raw bytes, over the digest that /appdata shows', async () => {
    const attested = await ask('/attest/my.tag/00ff');
    expect(attested.body).toHaveLength(65);
    expect(attested.body[0]).toBe(27);
    const digest = await ask('/appdata/my.tag/00FF');
    const attestation = { app: appId('greeting'), tag: 'my.tag', data: fromHex('00ff') };
    expect(toHex(digest.body)).toBe(
      toHex(attestationDigest({ chainId: 31337, contract: parseAddress(contract) }, attestation)),
    );
    expect((await ask(`/attest/t/${'ab'.repeat(4096)}`)).status).toBe(200);
    expect(await codeFrom(`/attest/t/${'ab'.repeat(4097)}`)).toBe('BAD_DATA');
  });

  test('tells an app about its node', async () => {
    const { body } = await ask('/info');
    expect(JSON.parse(body.toString())).toEqual({
      app: 'greeting',
      manifestHash: parseHex(hash),
      ...info,
      disk: { state: 'ready', diskId: 'ab'.repeat(16) },
    });
  });

  test.each([
    ['127.0.0.5', 403, 'APP_SUPERSEDED'],
    ['127.0.0.6', 503, 'APP_CHAIN_STALE'],
  ])('an app that has ended gets no key, no quote and no attestation: %s', async (from, status, code) => {
    asked.length = 0;
    for (const path of ['/getkey/x', '/attest/x/00', '/appdata/x/00', '/info']) {
      const reply = await ask(path, from);
      expect(reply.status).toBe(status);
      expect(JSON.parse(reply.body.toString())).toEqual({ code, message: why });
    }
    expect(asked).toEqual([]);
  });

  test('strangers, and addresses that arrive on a foreign bridge, get nothing', async () => {
    expect(await codeFrom('/getkey/x', '127.0.0.9')).toBe('UNKNOWN_CALLER');
    expect(await codeFrom('/getkey/x', '127.0.0.3')).toBe('UNKNOWN_CALLER');
    expect(await codeFrom('/getkey/x', '127.0.0.1')).toBe('UNKNOWN_CALLER');
  });

  test.each([
    ['host', 'dstack-guest:80'],
    ['host', 'dstack-guest.'],
    ['host', '127.0.0.1'],
    ['host', 'DSTACK-GUEST'],
  ])('another %s: %s', async (name, value) => {
    expect(await codeFrom('/getkey/x', '127.0.0.2', { [name]: value })).toBe('WRONG_HOST');
  });

  test.each([
    ['X-Forwarded-For', '1.2.3.4'],
    ['x-forwarded-anything', ''],
    ['Forwarded', 'for=1.2.3.4'],
    ['Via', '1.1 proxy'],
    ['X-Real-IP', '1.2.3.4'],
    ['Origin', 'http://dstack-guest'],
    ['Sec-Fetch-Site', 'cross-site'],
    ['Sec-Fetch-Site', 'same-site'],
  ])("a forwarded request is not the app's: %s", async (name, value) => {
    expect(await codeFrom('/getkey/x', '127.0.0.2', { [name]: value })).toBe('FORWARDED_REQUEST');
  });

  test('GET only', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      expect(await codeFrom('/getkey/x', '127.0.0.2', {}, method)).toBe('METHOD');
    }
  });

  test('two Hosts, an absolute URL, and no HTTP at all', async () => {
    const raw = async (lines: string) => {
      const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
      socket.end(lines);
      return text(socket);
    };
    const close = 'Connection: close\r\n\r\n';
    expect(await raw(`GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\nHost: evil\r\n${close}`)).toMatch(
      /WRONG_HOST| 400 /,
    );
    expect(
      await raw(`GET http://dstack-guest/getkey/x HTTP/1.1\r\nHost: dstack-guest\r\n${close}`),
    ).toContain('WRONG_HOST');
    expect(
      await raw(`GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\nX: ${'x'.repeat(20_000)}\r\n${close}`),
    ).toContain(' 431 ');
    expect(await raw('\x16\x03\x01 hello\r\n\r\n')).toContain(' 400 ');
    // Node keeps a thousand headers: what is behind them is not passed over.
    const many = 'a:\r\n'.repeat(1_500);
    expect(
      await raw(
        `GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\n${many}X-Forwarded-For: 1.2.3.4\r\n${close}`,
      ),
    ).toMatch(/ 431 |FORWARDED_REQUEST/);
  });
});

test('no path is parsed into anything but its own parts', () => {
  const outcome = (path: string) => {
    try {
      return parseQuestion(path);
    } catch (error) {
      return codeOf(error);
    }
  };
  fc.assert(
    fc.property(fc.webPath(), (path) => {
      const question = outcome(`/getkey${path}`);
      if (typeof question === 'string') expect(question).toMatch(/^(NO_ROUTE|BAD_TAG)$/);
      else expect(question).toEqual({ kind: 'getkey', tag: path.slice(1) });
    }),
  );
});

test('a path of thousands of slashes is not taken apart into thousands of parts', () => {
  const split = vi.spyOn(String.prototype, 'split');
  expect(() => parseQuestion(`/info${'/'.repeat(15_000)}`)).toThrow('the agent has');
  const parts = split.mock.results.map(({ value }) => (value as string[]).length);
  split.mockRestore();
  expect(Math.max(...parts)).toBeLessThan(10);
});

test('a container that asks before kubernethes knows it waits a little', async () => {
  let calls = 0;
  const callers = new Callers(async () => {
    calls += 1;
    return { containers: calls < 3 ? [] : [containers[0]!], manifests };
  });
  expect((await callers.identify({ remote: '127.0.0.2', local: '127.0.0.1' })).app).toBe('greeting');
});

test('many that kubernethes does not know ask it no more often than one', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] });
  try {
    let calls = 0;
    const callers = new Callers(async () => {
      calls += 1;
      return { containers: [], manifests };
    });
    const waiting: Promise<unknown>[] = [];
    for (let nth = 0; nth < 30; nth += 1) {
      const origin = { remote: `127.0.1.${nth}`, local: '127.0.0.1' };
      waiting.push(callers.identify(origin).catch(codeOf));
      await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(4_000);
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['UNKNOWN_CALLER']));
    // In 3.3 seconds, 300 milliseconds apart.
    expect(calls).toBeLessThanOrEqual(12);
    expect(calls).toBeGreaterThanOrEqual(10);
  } finally {
    vi.useRealTimers();
  }
});

test('one that is looked at again is not waited for', async () => {
  let calls = 0;
  const callers = new Callers(async () => {
    calls += 1;
    return { containers: [], manifests };
  });
  const origin = { remote: '127.0.0.2', local: '127.0.0.1' };
  expect(await callers.identify(origin, 0).catch(codeOf)).toBe('UNKNOWN_CALLER');
  expect(calls).toBe(1);
});

test('an address that now belongs to another app is not answered for the old one for long', async () => {
  let app = 'greeting';
  const callers = new Callers(async () => ({ containers: [{ ...containers[0]!, app }], manifests }));
  expect((await callers.identify({ remote: '127.0.0.2', local: '127.0.0.1' })).app).toBe('greeting');
  app = 'other';
  await new Promise((resolve) => setTimeout(resolve, 2100));
  expect((await callers.identify({ remote: '127.0.0.2', local: '127.0.0.1' })).app).toBe('other');
});

test('what kubernethes said long ago, or was slow to say, is nobody now', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] });
  try {
    let answered = 0;
    const callers = new Callers(async () => {
      answered += 1;
      // The first answer is on its way for longer than an address is remembered; there is no container after it.
      if (answered > 1) return { containers: [], manifests };
      await new Promise((resolve) => setTimeout(resolve, REMEMBERED));
      return { containers: [containers[0]!], manifests };
    });
    const caller = callers
      .identify({ remote: '127.0.0.2', local: '127.0.0.1' })
      .then(({ app }) => app, codeOf);
    await vi.advanceTimersByTimeAsync(REMEMBERED + 10_000);
    expect(await caller).toBe('UNKNOWN_CALLER');
  } finally {
    vi.useRealTimers();
  }
});

describe('an app that takes all that it gets', () => {
  const here = { ...containers[0]!, gateway: '127.0.0.1' };
  const mine = ['127.0.0.2', '127.0.0.3', '127.0.0.4'].map((address) => ({ ...here, address }));
  const theirs = { ...here, app: 'other', address: '127.0.0.6', gateway: '127.0.0.5' };
  const asking = new Map<string, number>();
  let server: Server;
  let at = 0;
  const sockets: Socket[] = [];
  /** Bytes that the server has taken from its connections. */
  let read = 0;

  beforeAll(async () => {
    const hangs = new Promise<never>(() => {});
    server = agentServer(
      new Callers(async () => ({ containers: [...mine, theirs], manifests })),
      {
        ...({} as Siblings),
        async appKey(app) {
          asking.set(app, (asking.get(app) ?? 0) + 1);
          return app === 'other' ? { key: parseHex(hash) } : hangs;
        },
        attest: () => hangs,
        info: () => hangs,
        disk: () => hangs,
      },
      { debug: () => {}, warn: () => {} },
    );
    server.on('connection', (socket) =>
      socket.on('data', (bytes: Buffer) => {
        read += bytes.length;
      }),
    );
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    at = (free.address() as AddressInfo).port;
    await new Promise((resolve) => free.close(resolve));
    await listenAt(server, ['127.0.0.1', '127.0.0.5'], at);
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });
  afterAll(() => server.close());

  const open = (address: string): Socket => {
    const socket = connect({ host: '127.0.0.1', port: at, localAddress: address });
    socket.on('error', () => {}).resume();
    sockets.push(socket);
    return socket;
  };
  const REQUEST = 'GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\n\r\n';
  const theOther = async (): Promise<string> => {
    const socket = connect({ host: '127.0.0.5', port: at, localAddress: theirs.address });
    sockets.push(socket);
    socket.write(REQUEST.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    return text(socket);
  };

  test('has 64 connections, of all its containers together, and the others are answered', async () => {
    for (let one = 0; one < 600; one += 1) open(mine[one % mine.length]!.address);
    await expect.poll(() => sockets.filter(({ destroyed }) => !destroyed)).toHaveLength(64);
    expect(await theOther()).toContain('200 OK');
  });

  test('has so many bytes waiting that nobody else would be heard, and the others are answered', async () => {
    // A byte of a body in each chunk: Node by itself would take as much of it as there is before anybody else has a turn.
    const head = 'POST /v1/key HTTP/1.1\r\nHost: dstack-guest\r\nTransfer-Encoding: chunked\r\n\r\n';
    const chunks = Buffer.from(`${head}${'1\r\n \r\n'.repeat(400_000)}`);
    for (let one = 0; one < 60; one += 1) open(mine[one % mine.length]!.address).write(chunks);
    await expect.poll(() => read).toBeGreaterThan(0);
    const before = read;
    expect(await theOther()).toContain('200 OK');
    const meanwhile = read - before;
    for (const socket of sockets) socket.destroy();
    // A few turns of two kilobytes. Seconds would say how busy the machine is.
    expect(meanwhile).toBeLessThan(60_000);
  });
});

test('a connection is begun in a turn, and its bytes are read in the next', async () => {
  // Its own, so that connections of other tests have no part in it.
  const gateway = '127.0.0.21';
  const turns: (() => unknown)[] = [];
  const inTurn = vi
    .spyOn(Turns.prototype, 'inTurn')
    .mockImplementation(async (app, action) => void (app === gateway && turns.push(action)) as never);
  const never = () => Promise.reject(new DstackError('AWAY', 'away'));
  const server = agentServer(
    new Callers(async () => ({ containers: [], manifests: [] })),
    { appKey: never, attest: never, info: never, disk: never } as unknown as Siblings,
    { debug: () => {}, warn: () => {} },
  );
  let heard = 0;
  server.on('request', () => {
    heard += 1;
  });
  server.listen(0, gateway);
  await once(server, 'listening');
  const client = connect({ host: gateway, port: (server.address() as AddressInfo).port });
  client.on('error', () => {}).write('GET /nowhere HTTP/1.1\r\nHost: dstack-guest\r\n\r\n');
  for (const expected of [0, 1]) {
    await expect.poll(() => turns.length).toBe(1);
    turns.shift()!();
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toBe(expected);
  }
  inTurn.mockRestore();
  client.destroy();
  server.close();
});

test('a connection that ends before its turn is no refusal', async () => {
  const gateway = '127.0.0.22';
  const turns: (() => unknown)[] = [];
  const inTurn = vi
    .spyOn(Turns.prototype, 'inTurn')
    .mockImplementation(async (app, action) => void (app === gateway && turns.push(action)) as never);
  const count = vi.spyOn(Refusals.prototype, 'count');
  const never = () => Promise.reject(new DstackError('AWAY', 'away'));
  const server = agentServer(
    new Callers(async () => ({ containers: [], manifests: [] })),
    { appKey: never, attest: never, info: never, disk: never } as unknown as Siblings,
    { debug: () => {}, warn: () => {} },
  );
  let closed = 0;
  server.on('connection', (socket) => socket.once('close', () => (closed += 1)));
  server.listen(0, gateway);
  await once(server, 'listening');
  const port = (server.address() as AddressInfo).port;
  // The first before its turn, the second after.
  for (const isBegun of [false, true]) {
    const client = connect({ host: gateway, port });
    client.on('error', () => {});
    await expect.poll(() => turns.length).toBe(1);
    if (isBegun) turns.shift()!();
    client.resetAndDestroy();
    await expect.poll(() => closed).toBe(isBegun ? 2 : 1);
    for (const turn of turns.splice(0)) turn();
    await expect.poll(() => count.mock.calls).toEqual(isBegun ? [[gateway]] : []);
  }
  inTurn.mockRestore();
  count.mockRestore();
  server.close();
});

test('an app that is refused for one thing and another, in turns, fills no log', async () => {
  const warned: object[] = [];
  const log = { debug: () => {}, warn: (fields: object) => void warned.push(fields) };
  const never = () => Promise.reject(new DstackError('AWAY', 'away'));
  const server = agentServer(
    new Callers(async () => ({ containers: [], manifests: [] })),
    { appKey: never, attest: never, info: never, disk: never } as unknown as Siblings,
    log,
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = (server.address() as AddressInfo).port;
  for (let i = 0; i < 20; i++)
    for (const path of ['/nothing', '/getkey/%21'])
      await new Promise<void>((resolve, reject) => {
        const options = {
          host: '127.0.0.1',
          port: at,
          path,
          headers: { host: 'dstack-guest' },
          agent: false,
        };
        request(options, (response) => response.resume().on('end', resolve))
          .on('error', reject)
          .end();
      });
  server.close();
  expect(warned).toMatchObject([{ code: 'NO_ROUTE' }, { code: 'BAD_TAG' }]);
});

test('the same refusal is said again after a while, and not everything is remembered', () => {
  let time = 0;
  const isSaid = sayings(() => time);
  expect([isSaid('a'), isSaid('b'), isSaid('a'), isSaid('b')]).toEqual([false, false, true, true]);
  time = 60_000;
  expect([isSaid('a'), isSaid('a')]).toEqual([false, true]);
  for (let i = 0; i < 20_000; i++) isSaid(`${i}`);
  expect(isSaid('a')).toBe(false);
});
