import { mkdtempSync, rmSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from 'typebox';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DstackError } from '../protocol/errors.ts';
import { callUnix, serveUnix } from './unix-http.ts';

let directory: string;
let path: string;
const servers: Server[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-socket-'));
  path = join(directory, 'test.sock');
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(directory, { recursive: true, force: true });
});

async function serve(routes: Parameters<typeof serveUnix>[0]['routes']): Promise<void> {
  servers.push(await serveUnix({ path, routes, maxBodyBytes: 1000 }));
}
const call = (route: string, body?: unknown) =>
  callUnix({
    path,
    method: body === undefined ? 'GET' : 'POST',
    route,
    body,
    reply: Type.Object({ n: Type.Number() }),
  });

test('a reply is checked by its schema', async () => {
  await serve({ 'GET /good': () => ({ n: 1 }), 'GET /bad': () => ({ n: 'one' }) });
  expect(await call('/good')).toEqual({ n: 1 });
  await expect(call('/bad')).rejects.toMatchObject({ code: 'SOCKET_REPLY' });
});

test("a late server is waited for, however the machine's clock is moved meanwhile", async () => {
  let looks = 0;
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => {
    looks += 1;
    return looks * 3_600_000;
  });
  try {
    const reply = Type.Object({ n: Type.Number() });
    const waiting = callUnix({ path, method: 'GET', route: '/good', reply, connectWithin: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await serve({ 'GET /good': () => ({ n: 1 }) });
    expect(await waiting).toEqual({ n: 1 });
  } finally {
    clock.mockRestore();
  }
});

test('a refusal keeps its code; what is not ours is not told', async () => {
  await serve({
    'GET /ours': () => {
      throw new DstackError('TEST_CODE', 'the reason');
    },
    'GET /other': () => {
      throw new Error('a secret in a message');
    },
  });
  await expect(call('/ours')).rejects.toMatchObject({ code: 'TEST_CODE', message: 'the reason' });
  await expect(call('/other')).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.not.stringContaining('secret'),
  });
});

test('no route is found by a name that every object has', async () => {
  await serve({ 'GET /good': () => ({ n: 1 }) });
  for (const route of ['/constructor', '/__proto__', '/toString']) {
    await expect(call(route)).rejects.toMatchObject({ code: 'NO_ROUTE' });
  }
});

test('a body that is too large, or no JSON, is refused and the server goes on', async () => {
  await serve({ 'POST /echo': () => ({ n: 1 }), 'GET /good': () => ({ n: 1 }) });
  await expect(call('/echo', { text: 'x'.repeat(2000) })).rejects.toMatchObject({ code: 'BODY_TOO_LARGE' });
  await new Promise<void>((resolve) => {
    const socket = connect(path, () =>
      socket.end('POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{'),
    );
    socket.on('close', () => resolve());
    socket.resume();
  });
  expect(await call('/good')).toEqual({ n: 1 });
});

test('only the owner may connect, unless a group was named', async () => {
  await serve({});
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a caller waits for a socket that comes later, and gives up when it does not', async () => {
  const early = callUnix({
    path,
    method: 'GET',
    route: '/late',
    reply: Type.Object({ n: Type.Number() }),
    connectWithin: 60_000,
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  await serve({ 'GET /late': () => ({ n: 2 }), 'GET /never': () => new Promise(() => {}) });
  expect(await early).toEqual({ n: 2 });
  const never = callUnix({ path, method: 'GET', route: '/never', reply: Type.Object({}), timeout: 200 });
  await expect(never).rejects.toMatchObject({ code: 'SOCKET_TIMEOUT' });
  await expect(call('/x')).rejects.toMatchObject({ code: 'NO_ROUTE' });
  rmSync(path);
  await expect(call('/x')).rejects.toMatchObject({ code: 'SOCKET_UNREACHABLE' });
});
