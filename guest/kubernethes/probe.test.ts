import { createServer as createHttp, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { type ContainerPlan, plansOf } from '../../lib/protocol/manifest.ts';
import { probe } from './probe.ts';

const closing: Server[] = [];
const sockets = new Set<Socket>();
afterEach(() => {
  for (const server of closing.splice(0)) server.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

/** @returns its port on the loopback */
async function listening(server: Server): Promise<number> {
  closing.push(server);
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const http = (answer: RequestListener): Promise<number> => listening(createHttp(answer));

const planOf = (fields: object): ContainerPlan =>
  plansOf({
    version: 2,
    app: 'greeting',
    containers: [{ name: 'web', image: `sha256:${'ab'.repeat(32)}`, ...fields }],
  })[0]!;

const none = { runIn: async (): Promise<never> => expect.unreachable() };
const at = { id: 'ef'.repeat(32), address: '127.0.0.1' };
const asked = (port: number, timeoutSeconds = 5) =>
  probe(
    none,
    at,
    planOf({ http: { port }, health: { http: '/healthz?deep=1', timeoutSeconds }, logs: 'public' }),
  );

test.each([200, 204, 302, 399])('status %i is healthy', async (status) => {
  const seen: string[] = [];
  const port = await http((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.host}`);
    response.writeHead(status).end();
  });
  expect(await asked(port)).toBeUndefined();
  expect(seen).toEqual(['GET /healthz?deep=1 localhost']);
});

test.each([404, 500, 503])('status %i is not, and what was answered is shown', async (status) => {
  const port = await http((_, response) => response.writeHead(status).end('no database'));
  expect(await asked(port)).toBe(`answers /healthz?deep=1 with status ${status}: no database`);
});

test('what one with private logs answers is its own', async () => {
  const port = await http((_, response) => response.writeHead(500).end('a secret'));
  const plan = planOf({ http: { port }, health: { http: '/' } });
  expect(await probe(none, at, plan)).toBe('answers / with status 500');
});

test('of an endless answer, little is read', async () => {
  let sent = 0;
  const port = await http((_, response) => {
    response.writeHead(500);
    const flood = setInterval(() => {
      sent += 1;
      response.write('x'.repeat(100));
    }, 1);
    response.on('close', () => clearInterval(flood));
  });
  expect(await asked(port)).toBe(`answers /healthz?deep=1 with status 500: ${'x'.repeat(200)}`);
  const before = sent;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(sent - before).toBeLessThan(20);
});

test.each([
  ['says nothing', () => {}],
  ['sends headers without end', (socket: Socket) => void setInterval(() => socket.write('x'), 50).unref()],
  ['answers 500 without end', (socket: Socket) => void socket.write('HTTP/1.1 500 Oh\r\n\r\nx')],
])('one that %s is given up in time', async (_, behave) => {
  const port = await listening(
    createServer((socket) => {
      socket.on('error', () => {});
      behave(socket);
    }),
  );
  const began = performance.now();
  expect(await asked(port, 1)).toMatch(/does not answer|with status 500/);
  expect(performance.now() - began).toBeLessThan(30_000);
});

test('one that is not there, or speaks no HTTP', async () => {
  const port = await listening(createServer((socket) => void socket.end('SSH-2.0\r\n')));
  expect(await asked(port)).toMatch(/^does not answer \/healthz\?deep=1: /);
  closing.splice(0)[0]!.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await asked(port)).toMatch(/^does not answer .*ECONNREFUSED/);
});

test('without a health check, its port has to accept; one without a port is up', async () => {
  const port = await listening(createServer());
  expect(await probe(none, at, planOf({ http: { port } }))).toBeUndefined();
  closing.splice(0)[0]!.close();
  expect(await probe(none, at, planOf({ http: { port } }))).toBe(`does not listen on its port ${port}`);
  expect(await probe(none, at, planOf({}))).toBeUndefined();
});

test.each([
  [0, undefined],
  [3, 'fails its health check with exit code 3'],
  [undefined, 'gives no exit code of its health check in 7 s'],
])('a command that exits with %j', async (code, wrong) => {
  const commands: unknown[] = [];
  const engine = {
    runIn: async (...call: unknown[]) => {
      commands.push(call);
      return code;
    },
  };
  const plan = planOf({ health: { exec: ['/check', 'all'], timeoutSeconds: 7 } });
  expect(await probe(engine, at, plan)).toBe(wrong);
  expect(commands).toEqual([[at.id, ['/check', 'all'], 7]]);
});
