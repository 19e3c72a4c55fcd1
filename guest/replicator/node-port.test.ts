/** The node port in a hostile host's hands: raw bytes on its socket, and every way in which a call can be refused. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { bytesAsJson } from '../../lib/daemon/http-body.ts';
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES, type NodeStatus, nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { type NodeReports, type NodeService, nodePort } from './node-port.ts';

const STATUS = { state: 'joined' } as unknown as NodeStatus;
const APPS: AppsStatus = { apps: [], more: 0, rollouts: [] };
const unused = () => Promise.reject(new Error('a secret in a message'));

let service: NodeService;
let apps: () => Promise<AppsStatus>;
const NO_SIGNER: SignerStatus = { dials: false, chains: [], connections: [] };
let signer: () => Promise<SignerStatus>;
let ask: NodeReports['ask'];
let server: Server;
let port: number;
let logged: { fields: Record<string, unknown>; message: string }[];
const sockets: Socket[] = [];

beforeEach(async () => {
  service = {
    status: () => STATUS,
    request: unused,
    answer: unused,
    onboard: unused,
    sealed: unused,
    bootstrapPackage: unused,
    sealingKey: unused,
    platformKind: unused,
    takeCollateral: () => {
      throw new Error('nothing may come this far');
    },
  };
  logged = [];
  apps = async () => APPS;
  signer = async () => NO_SIGNER;
  ask = unused;
  server = nodePort(
    service,
    { apps: () => apps(), signer: () => signer(), ask: (...asked) => ask(...asked) },
    {
      warn: (fields, message) => void logged.push({ fields: fields as Record<string, unknown>, message }),
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.closeAllConnections();
  server.close();
});

interface Answer {
  status: number;
  code?: string;
  message?: string;
  state?: string;
}

async function call(path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  return { status: response.status, ...((await response.json()) as object) };
}
const post = (path: string, body: string, type = 'application/json') =>
  call(path, { method: 'POST', body, headers: { 'content-type': type } });

/** A connection that says `text`, and what came back on it until it closed or `done` was true of that. */
async function say(text: string, done: (said: string) => boolean = () => false): Promise<string> {
  const socket = await open();
  socket.write(text);
  return heard(socket, done);
}
async function open(): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}
function heard(socket: Socket, done: (said: string) => boolean = () => false): Promise<string> {
  let said = '';
  return new Promise((resolve) => {
    socket.on('data', (chunk) => {
      said += String(chunk);
      if (done(said)) resolve(said);
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => resolve(said));
  });
}
const statusLines = (said: string) => [...said.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status);
const stillServes = async () => expect(await call(nodePaths.status)).toMatchObject({ status: 200 });

/** More than a socket buffers. */
const SENT = 32 * 1024 * 1024;
const HEAD = `POST ${nodePaths.request} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;

test('a refusal keeps its code; what is not ours is told to the log alone', async () => {
  service.request = () => Promise.reject(new DstackError('CHAIN_STALE', 'the reason'));
  expect(await call(nodePaths.request, { method: 'POST' })).toEqual({
    status: 422,
    code: 'CHAIN_STALE',
    message: 'the reason',
  });
  expect(await call(`${nodePaths.bootstrap}?x=${'y'.repeat(500)}`)).toEqual({
    status: 500,
    code: 'INTERNAL',
    message: 'internal error; see the VM console',
  });
  expect(logged).toEqual([
    {
      fields: { code: 'CHAIN_STALE', route: nodePaths.request, err: 'the reason' },
      message: 'refused a call from the host',
    },
    {
      fields: {
        code: 'INTERNAL',
        route: `${nodePaths.bootstrap}?x=${'y'.repeat(500)}`.slice(0, 100),
        err: 'a secret in a message',
      },
      message: 'refused a call from the host',
    },
  ]);
});

test('what the port does not have is not found, and no line of the log is spent on it', async () => {
  for (const path of ['/', '/v1/app-key', '/constructor', '/__proto__', `${nodePaths.status}/`]) {
    expect(await call(path)).toMatchObject({ status: 404, code: 'NO_ROUTE' });
    expect(await post(path, '{}')).toMatchObject({ status: 404, code: 'NO_ROUTE' });
  }
  expect(await call(nodePaths.status, { method: 'DELETE' })).toMatchObject({ status: 404 });
  expect(await call(nodePaths.request)).toMatchObject({ status: 404 });
  expect(logged).toEqual([]);
});

test('a query changes nothing', async () => {
  expect(await call(`${nodePaths.status}?state=failed&__proto__=1`)).toEqual({
    status: 200,
    state: 'joined',
  });
  expect(await post(`${nodePaths.answer}?a?b`, '{}')).toMatchObject({
    status: 422,
    code: 'MESSAGE_MALFORMED',
  });
});

test.each([
  ['no JSON', '{', 'application/json', 400],
  ['JSON of another type', '{}', 'text/plain', 415],
  ['a form', 'a=b', 'application/x-www-form-urlencoded', 415],
  ['another shape', '{"type":"sealed"}', 'application/json; charset=utf-8', 422],
  ['a list', '[]', 'application/json', 422],
  ['null', 'null', 'application/json', 422],
])('a body that is %s is malformed', async (_, body, type, status) => {
  expect(await post(nodePaths.answer, body, type)).toMatchObject({ status, code: 'MESSAGE_MALFORMED' });
  expect(logged).toMatchObject([{ fields: { code: 'MESSAGE_MALFORMED', route: nodePaths.answer } }]);
  await stillServes();
});

test('a body with the key __proto__ gives no object another prototype', async () => {
  let answered = 0;
  service.answer = () => {
    answered += 1;
    return Promise.resolve(STATUS);
  };
  for (const body of ['{"__proto__":{"type":"sealed"}}', '{"constructor":{"prototype":{"type":"sealed"}}}']) {
    expect(await post(nodePaths.answer, body)).toMatchObject({ code: 'MESSAGE_MALFORMED' });
  }
  expect(answered).toBe(0);
  expect(({} as { type?: string }).type).toBeUndefined();
});

test('four calls are at work at once; the fifth is told to come back, and status is told to everyone', async () => {
  const { promise, resolve } = Promise.withResolvers<never>();
  service.request = () => promise;
  const held = Array.from({ length: 4 }, () => call(nodePaths.request, { method: 'POST' }));
  await pause(200);
  expect(await call(nodePaths.request, { method: 'POST' })).toMatchObject({ status: 503, code: 'BUSY' });
  await stillServes();
  resolve({ type: 'request' } as never);
  expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect(await call(nodePaths.request, { method: 'POST' })).toMatchObject({ status: 200 });
});

test('64 connections are held and no more', async () => {
  const all = await Promise.all(Array.from({ length: 70 }, open));
  for (const socket of all) socket.write('GET');
  await pause(300);
  const living = all.filter((socket) => !socket.readableEnded && !socket.closed && socket.resume());
  await pause(300);
  expect(living.filter((socket) => !socket.readableEnded && !socket.closed)).toHaveLength(64);
});

test.each([
  ['with its length', `content-length: ${SENT}\r\n\r\n`, ''],
  ['in chunks', `transfer-encoding: chunked\r\n\r\n${SENT.toString(16)}\r\n`, '\r\n0\r\n\r\n'],
])('a body that is too large, %s, is refused, and its sender gets to know', async (_, framing, end) => {
  const socket = await open();
  socket.write(HEAD + framing);
  // As a sender does that looks at nothing before it is through: all of it has to be taken.
  for (let sent = 0; sent < SENT; sent += 1024 * 1024) {
    if (!socket.write(' '.repeat(1024 * 1024))) await once(socket, 'drain');
  }
  socket.write(end);
  const said = await heard(socket, (text) => text.includes('}'));
  expect(said).toMatch(/^HTTP\/1\.1 413 [\s\S]*"code":"MESSAGE_MALFORMED"/);
  await stillServes();
});

test('a body of just the largest size is read', async () => {
  const body = `"${'x'.repeat(MESSAGE_MAX_BYTES - 2)}"`;
  expect(await post(nodePaths.answer, body)).toMatchObject({ status: 422, code: 'MESSAGE_MALFORMED' });
  expect(await post(nodePaths.answer, `${body} `)).toMatchObject({ status: 413, code: 'MESSAGE_MALFORMED' });
});

test('a body without end is cut off', async () => {
  const socket = await open();
  const begin = performance.now();
  socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n`);
  const chunk = `4000\r\n${' '.repeat(0x4000)}\r\n`;
  const flood = setInterval(() => socket.write(chunk), 20);
  try {
    expect(statusLines(await heard(socket))[0]).toBe('413');
  } finally {
    clearInterval(flood);
  }
  expect(performance.now() - begin).toBeLessThan(120_000);
  await stillServes();
}, 300_000);

test.each([
  ['headers that come a byte a second', 'GET /v1/status HTTP/1.1\r\nx-'],
  ['a body that comes a byte a second', `${HEAD}content-length: 1000\r\n\r\n`],
])('%s are not waited for', async (_, text) => {
  const begin = performance.now();
  const socket = await open();
  socket.write(text);
  const drip = setInterval(() => socket.write('1'), 1000);
  try {
    expect(statusLines(await heard(socket))).toEqual(['408']);
  } finally {
    clearInterval(drip);
  }
  expect(performance.now() - begin).toBeLessThan(120_000);
  await stillServes();
});

test.each([
  ['two lengths', `${HEAD}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`],
  ['two lengths in one header', `${HEAD}content-length: 2, 2\r\n\r\n{}`],
  ['a negative length', `${HEAD}content-length: -1\r\n\r\n{}`],
  ['a length and chunks', `${HEAD}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['chunks under another coding', `${HEAD}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n`],
  ['a chunk without a length', `${HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`],
  ['a line feed alone between headers', `GET ${nodePaths.status} HTTP/1.1\nhost: x\n\n`],
  ['a space before the colon', `GET ${nodePaths.status} HTTP/1.1\r\nhost : x\r\n\r\n`],
  ['a TLS hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
])('a request with %s is refused, and what follows it on its connection is not read', async (_, text) => {
  let requests = 0;
  service.request = () => {
    requests += 1;
    return Promise.resolve({} as never);
  };
  const said = await say(`${text}${HEAD}content-length: 2\r\n\r\n{}`);
  expect(statusLines(said)).toEqual(['400']);
  expect(requests).toBe(0);
  await stillServes();
});

test('a request without a host is refused', async () => {
  expect(statusLines(await say(`GET ${nodePaths.status} HTTP/1.1\r\n\r\n`))).toEqual(['400']);
});

test('headers that are too large are refused', async () => {
  const said = await say(`GET ${nodePaths.status} HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`);
  expect(statusLines(said)).toEqual(['431']);
  await stillServes();
});

test('a body in chunks is a body', async () => {
  service.request = () => Promise.resolve({ type: 'request' } as never);
  const said = await say(`${HEAD}transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n`, (text) =>
    text.includes('}'),
  );
  expect(said).toMatch(/^HTTP\/1\.1 200 /);
});

test('requests in one go on one connection are answered in their order, and count like any others', async () => {
  const { promise, resolve } = Promise.withResolvers<never>();
  service.request = () => promise;
  const one = `${HEAD}content-length: 2\r\n\r\n{}`;
  const socket = await open();
  const said = heard(socket, (text) => statusLines(text).length === 7);
  socket.write(`${one.repeat(6)}GET ${nodePaths.status} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await pause(200);
  expect(await call(nodePaths.request, { method: 'POST' })).toMatchObject({ status: 503 });
  resolve({ type: 'request' } as never);
  expect(statusLines(await said)).toEqual(['200', '200', '200', '200', '503', '503', '200']);
});

test('who sends no more after a request still gets its answer', async () => {
  const socket = await open();
  const said = heard(socket);
  socket.end(`GET ${nodePaths.status} HTTP/1.1\r\nhost: x\r\n\r\n`);
  expect(statusLines(await said)).toEqual(['200']);
});

test.each(['in its headers', 'in its body'])('a connection that ends %s costs nothing', async (where) => {
  let requests = 0;
  service.request = () => {
    requests += 1;
    return Promise.resolve({} as never);
  };
  for (let n = 0; n < 10; n += 1) {
    const socket = await open();
    socket.write(where === 'in its headers' ? HEAD : `${HEAD}content-length: 100\r\n\r\n{`);
    await pause(20);
    if (n % 2 === 0) socket.resetAndDestroy();
    else socket.end();
  }
  await pause(200);
  expect(requests).toBe(0);
  await stillServes();
});

test('how apps stand is told as kubernethes says it, and its refusal keeps its code', async () => {
  expect(await call(nodePaths.apps)).toEqual({ status: 200, ...APPS });
  apps = () => Promise.reject(new DstackError('SOCKET_UNREACHABLE', 'kubernethes is not up yet'));
  expect(await call(nodePaths.apps)).toMatchObject({ status: 422, code: 'SOCKET_UNREACHABLE' });
  expect(await post(nodePaths.apps, '{}')).toMatchObject({ status: 404 });
});

test('collateral is taken as what it is, and nothing else is', async () => {
  const taken: unknown[] = [];
  service.takeCollateral = (collateral) => void taken.push(collateral);
  const good = PUBLISHED_SIMULATED_COLLATERAL;
  expect(await post(nodePaths.collateral, JSON.stringify(good))).toEqual({ status: 200 });
  for (const bad of [
    {},
    { ...good, tcb_info: undefined },
    { ...good, more: 1 },
    { ...good, root_ca_crl: 'no hex' },
    { ...good, tcb_info: 'x'.repeat(30_000) },
  ]) {
    const refusal = await post(nodePaths.collateral, JSON.stringify(bad));
    expect(refusal).toMatchObject({ status: 422, code: 'MESSAGE_MALFORMED' });
  }
  expect(taken).toEqual([good]);
});

test("an app's sealing key is asked for by the app's name, and by nothing else", async () => {
  const asked: string[] = [];
  service.sealingKey = async (app) => {
    asked.push(app);
    return {} as never;
  };
  const ask = (body: object) => post(nodePaths.sealingKey, JSON.stringify(body));
  expect(await ask({ app: 'shop' })).toEqual({ status: 200 });
  for (const bad of [{}, { app: '../x' }, { app: 'shop', tag: 'x' }, { app: 7 }])
    expect(await ask(bad)).toMatchObject({ status: 422, code: 'MESSAGE_MALFORMED' });
  expect(asked).toEqual(['shop']);
});

test('how the signer stands is told as it says it; that there is none has a code, and is not logged', async () => {
  expect(await call(nodePaths.signer)).toEqual({ status: 200, ...NO_SIGNER });
  signer = () => Promise.reject(new DstackError('SIGNER_AWAY', 'no signer'));
  expect(await call(nodePaths.signer)).toMatchObject({ status: 422, code: 'SIGNER_AWAY' });
  expect(logged).toEqual([]);
});

test('what a host asks an app is a path and a body, and what it gets is what the app said', async () => {
  const asked: unknown[] = [];
  ask = async (app, path, body) => {
    asked.push([app, path, body]);
    return { status: 200, value: { pong: 1 } };
  };
  expect(await post('/v1/app/auction/request/v1/answer?x=1', '{"a":[1]}')).toEqual({ status: 200, pong: 1 });
  expect(asked).toEqual([['auction', '/v1/answer', { a: [1] }]]);
  ask = async () => ({
    status: 409,
    value: { code: 'REQUEST_AHEAD', message: 'the first comes first', more: 1 },
  });
  expect(await post('/v1/app/auction/request/v1/answer', '{}')).toEqual({
    status: 409,
    code: 'REQUEST_AHEAD',
    message: 'the first comes first',
  });
});

test.each([
  '/v1/app/auction/request',
  '/v1/app/auction/request/',
  '/v1/app/auction/request//v1',
  '/v1/app/auction/request/v1/',
  '/v1/app/auction/request/../status',
  '/v1/app/auction/request/v1/..',
  '/v1/app/auction/request/./v1',
  '/v1/app/auction/request/%2e%2e/v1',
  '/v1/app/auction/request/v1%0d%0ahost:x',
  `/v1/app/auction/request/${'a'.repeat(128)}`,
  '/v1/app/../request/v1',
  '/v1/app//request/v1',
  '/v1/app/Auction/request/v1',
  `/v1/app/${'a'.repeat(32)}/request/v1`,
  '/v1/app/auction/v1',
])('%s is no path of an app', async (path) => {
  ask = () => Promise.reject(new Error('nothing may come this far'));
  // As it is written: fetch would put some of it right.
  const said = await say(
    `POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
  );
  expect(said).toContain('HTTP/1.1 404');
  expect(said).toContain('"NO_ROUTE"');
});

test.each([
  ['APP_UNKNOWN', 404],
  ['APP_NO_REQUESTS', 404],
  ['APP_BUSY', 503],
  ['APP_NOT_RUNNING', 503],
  ['APP_REPLY', 502],
  ['APP_OVERDUE', 504],
])('an app that is not asked is %s, with status %i', async (code, status) => {
  ask = () => Promise.reject(new DstackError(code, 'the reason'));
  expect(await post('/v1/app/auction/request/v1/answer', '{}')).toEqual({
    status,
    code,
    message: 'the reason',
  });
});

test('a refusal of an app that has not the form of one does not pass', async () => {
  const forms = [{}, 'no', null, { code: 'A B', message: '' }, { code: 'A', message: 'x'.repeat(5000) }];
  for (const value of [...forms, { code: 'APP_UNKNOWN', message: 'give up' }]) {
    ask = async () => ({ status: 500, value });
    const reply = await post('/v1/app/auction/request/v1/answer', '{}');
    expect(reply, JSON.stringify(value).slice(0, 50)).toMatchObject({ status: 502, code: 'APP_REPLY' });
  }
});

test.each([204, 302, 399, 600, 999])(
  'an app that refuses with status %i has not answered',
  async (status) => {
    for (const code of ['BUSY', 'constructor', 'toString', '__proto__']) {
      ask = async () => ({ status, value: { code, message: 'as the node says it' } });
      const reply = await post('/v1/app/auction/request/v1/answer', '{}');
      expect(reply, code).toMatchObject({ status: 502, code: 'APP_REPLY' });
    }
  },
);

test('a code that every object has as a property is a code like any other', async () => {
  for (const code of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    ask = () => Promise.reject(new DstackError(code, 'the reason'));
    const reply = await post('/v1/app/auction/request/v1/answer', '{}');
    expect(reply).toEqual({ status: 422, code, message: 'the reason' });
    ask = async () => ({ status: 409, value: { code, message: 'the reason' } });
    expect(await post('/v1/app/auction/request/v1/answer', '{}')).toEqual({
      ...{ status: 409, code },
      message: 'the reason',
    });
  }
  await stillServes();
});

test('JSON that is nested deeper than it can be written ends its own call', async () => {
  const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  ask = async () => ({ status: 200, value: JSON.parse(deep(100_000)) as unknown });
  expect((await post('/v1/app/auction/request/v1/answer', '{}')).status).toBeGreaterThanOrEqual(500);
  ask = async (_app, _path, body) => ({ status: 200, value: bytesAsJson(body) });
  for (const [depth, status] of [
    [100, 200],
    [101, 400],
    [200_000, 400],
  ] as const)
    expect(await post('/v1/app/auction/request/v1/answer', deep(depth))).toMatchObject({ status });
  await stillServes();
});

test('a body that grows on the way to the app is refused as what it is', async () => {
  ask = async () => ({ status: 200, value: {} });
  for (const count of [1, 100_000]) {
    const body = `[${Array(count).fill('1e20').join()}]`;
    const status = count === 1 ? 200 : 413;
    expect(await post('/v1/app/auction/request/v1/answer', body)).toMatchObject({ status });
  }
});

test('apps that do not answer hold up no other call', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  ask = () => held.then(() => ({ status: 200, value: {} }));
  const waiting = Array.from({ length: 16 }, () => post('/v1/app/slow/request/v1/answer', '{}'));
  expect(await call(nodePaths.apps)).toMatchObject({ status: 200 });
  service.request = () => Promise.resolve({} as never);
  expect(await call(nodePaths.request, { method: 'POST' })).toMatchObject({ status: 200 });
  release();
  for (const reply of await Promise.all(waiting)) expect(reply.status).toBe(200);
});
