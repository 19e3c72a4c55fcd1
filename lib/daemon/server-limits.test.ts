import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { type ConnectionLimits, HTTP_CHECKS, limitConnections, sourceOf } from './server-limits.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

async function start(limits: ConnectionLimits): Promise<Server> {
  const server = createServer(HTTP_CHECKS, (_, response) => response.end('here'));
  limitConnections(server, limits);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return server;
}

/** A connection from one of the loopback's many addresses. */
async function open(
  server: Server,
  localAddress: string,
  text = 'GET / HTTP/1.1\r\nHost: x\r\n',
): Promise<Socket> {
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', localAddress });
  cleanups.push(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  if (text !== '') socket.write(text);
  return socket;
}

/** Whether it is still there, a while after. */
async function lives(socket: Socket): Promise<boolean> {
  socket.resume();
  await new Promise((resolve) => setTimeout(resolve, 100));
  return !isGone(socket);
}

const isGone = ({ closed, readableEnded }: Socket): boolean => closed || readableEnded;

async function isAnswered(server: Server, from: string): Promise<boolean> {
  const socket = await open(server, from, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const chunks: string[] = [];
  socket.on('data', (chunk) => chunks.push(String(chunk)));
  await once(socket, 'close');
  return chunks.join('').includes('here');
}

test('one address holds so many connections and no more; another one gets through', async () => {
  const server = await start({ connections: 100, perSource: 3 });
  const held = await Promise.all([1, 2, 3, 4, 5].map(() => open(server, '127.0.0.2')));
  for (const socket of held) socket.resume();
  await expect.poll(() => held.filter(isGone)).toHaveLength(2);
  const living = await Promise.all(held.map(lives));
  expect(living.filter(Boolean)).toHaveLength(3);
  expect(await isAnswered(server, '127.0.0.3')).toBe(true);
  // What it gives back, it may take again.
  held[living.indexOf(true)]!.destroy();
  await expect.poll(() => isAnswered(server, '127.0.0.2')).toBe(true);
});

test('when all places are taken, the address with most of them gives one to a newcomer, its oldest', async () => {
  const server = await start({ connections: 5, perSource: 3 });
  const most: Socket[] = [];
  for (let n = 0; n < 3; n += 1) most.push(await open(server, '127.0.0.2'));
  const few = [await open(server, '127.0.0.3'), await open(server, '127.0.0.3')];
  expect(await isAnswered(server, '127.0.0.4')).toBe(true);
  most[0]!.resume();
  await expect.poll(() => isGone(most[0]!)).toBe(true);
  expect(await Promise.all([...most, ...few].map(lives))).toEqual([false, true, true, true, true]);
});

test.each(['', 'G', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1'])(
  'a connection that says %j and no more is ended soon, whoever listens to it',
  async (text) => {
    const server = await start({ connections: 5, perSource: 3, firstByteWithin: 300 });
    // Without a first byte it is not Node that ends it, which has limits of its own.
    if (text === '') Object.assign(server, { headersTimeout: 0, requestTimeout: 0 });
    const begin = performance.now();
    const socket = await open(server, '127.0.0.2', text);
    socket.resume();
    await once(socket, 'close');
    expect(performance.now() - begin).toBeLessThan(120_000);
  },
);

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::ffff:c000:201', '192.0.2.1'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:db8::2:3:4:5', '2001:db8:0:0::/64'],
  ['2001:DB8:0:1:ffff::', '2001:db8:0:1::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['::', '0:0:0:0::/64'],
  [undefined, ''],
])('%s is counted to %s', (address, source) => {
  expect(sourceOf(address)).toBe(source);
});

/** Servers that are bounded in another way, and how. */
const EXCEPT: Readonly<Record<string, string>> = {
  'cli/audit/chain-tape.ts': 'on the loopback, for the one audit of this process; a bound of connections',
  'cli/dev/dev.ts': 'looks whether a port is free, serves nothing',
  'guest/agent/door.ts': "hands each connection to the agent's server, whose bounds count it by the app",
  'lib/daemon/free-port.ts': 'looks for a free port, serves nothing',
  'lib/daemon/sole-holder.ts': 'a lock: each connection is destroyed as it comes',
  'guest/listen.ts': 'hands each connection to the server of the store, whose bounds count it',
  'guest/kv/dev/main.ts': 'looks for a free port, serves nothing',
  'host/records/wire/wire.ts': 'its gate counts connections and handshakes by the same sources',
  'host/vm/quoting.ts': 'a unix socket of mode 0600, for one QEMU',
};

test('every server of ours has these bounds', () => {
  const root = new URL('../../', import.meta.url);
  const files = execFileSync('git', ['ls-files', 'guest', 'host', 'lib', 'cli', 'app-example'], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\n')
    .filter((file) => /(?<!\.test|\.fixture)\.ts$/.test(file));
  const servers = files.filter((file) =>
    /\bcreateServer\(|\bcreateSecureServer\(|\b[fF]astify\(/.test(readFileSync(new URL(file, root), 'utf8')),
  );
  expect(servers.length).toBeGreaterThan(4);
  const bounded = (file: string) => /\blimitConnections\(/.test(readFileSync(new URL(file, root), 'utf8'));
  expect(servers.filter((file) => !bounded(file) && EXCEPT[file] === undefined)).toEqual([]);
});
