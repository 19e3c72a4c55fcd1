import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { SignerDaemon } from '../../guest/signer/daemon.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { SecretConnection } from '../../lib/cometbft/secret-connection.ts';
import { delimit, encode } from './support/definition.ts';
import { TestEtcd } from './support/etcd.ts';
import { TestNode } from './support/node.ts';
import { freshRecord, startSigner, testSecret } from './support/signer.ts';

const CHAIN = 'hostile-1';
const secret = testSecret();
/** Short, but no shorter than what a node that means well takes on a busy machine. */
const TIMES = { handshake: 3_000, message: 2_000, silence: 5_000, answer: 3_000 };
let etcd: TestEtcd;
let signer: SignerDaemon | undefined;
let server: Server | undefined;
const sockets: Socket[] = [];

beforeAll(async () => {
  etcd = await TestEtcd.start();
  await freshRecord(etcd.endpoints, secret, CHAIN);
});
afterAll(() => etcd?.stop());
afterEach(async () => {
  await signer?.stop();
  signer = undefined;
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
  server = undefined;
});

/** A node that does as it likes with each connection. */
async function node(each: (socket: Socket, n: number) => void): Promise<void> {
  let n = 0;
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    each(socket, n++);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  signer = await start(`tcp://127.0.0.1:${port}`);
}

function start(address: string): Promise<SignerDaemon> {
  return startSigner(etcd.endpoints, secret, [{ id: CHAIN, protocol: 'v0.38', nodes: [address] }], {
    times: TIMES,
  });
}

async function until(is: () => boolean, what: string, within = 60_000): Promise<void> {
  for (const end = Date.now() + within; !is(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() > end)
      throw new Error(`waited ${within} ms in vain for ${what}: ${JSON.stringify(status())}`);
  }
}

const status = () => signer!.status().connections[0]!;
const hasSigned = (): boolean => signer!.metrics().includes('dstack_signer_signatures_total{');

/** The node's side of a handshake, then what it likes. */
function shaken(socket: Socket, then: (secretConnection: SecretConnection) => void): void {
  const connection = new SecretConnection(ed25519Key(randomBytes(32)));
  socket.write(connection.hello());
  socket.on('data', (chunk) => {
    const wasShaken = connection.peer !== undefined;
    const { send } = connection.receive(chunk as Buffer);
    if (send.length > 0) socket.write(send);
    if (!wasShaken && connection.peer !== undefined) then(connection);
  });
}

test('whatever comes instead of a handshake: no crash, no signature, dialled again', async () => {
  let connections = 0;
  await node((socket, n) => {
    connections = n + 1;
    const kinds = [
      randomBytes(1 + (n % 80)),
      Buffer.concat([Buffer.from('220a20', 'hex'), Buffer.alloc(32)]),
      Buffer.concat([Buffer.from('220a20', 'hex'), randomBytes(32), randomBytes(1044)]),
      Buffer.alloc(100_000, 0xff),
      Buffer.from('SSH-2.0-OpenSSH_9.6\r\n'),
    ];
    socket.end(kinds[n % kinds.length]!);
  });
  await until(() => connections > 20, 'twenty connections', 120_000);
  expect(status().problem?.code).toBeDefined();
  expect(hasSigned()).toBe(false);
}, 300_000);

test('a handshake that never ends is ended, and one without a byte counts as queued', async () => {
  let mode: 'slow' | 'silent' = 'slow';
  await node((socket) => {
    const hello = new SecretConnection(ed25519Key(randomBytes(32))).hello();
    if (mode === 'silent') return;
    let at = 0;
    const timer = setInterval(() => socket.write(hello.subarray(at, ++at % 30)), 50);
    socket.on('close', () => clearInterval(timer));
  });
  await until(() => status().problem?.code === 'CONNECTION_SLOW', 'the end of a slow handshake');
  mode = 'silent';
  await until(() => status().state === 'queued', 'the state of one that waits');
  expect(status().problem?.message).toMatch(/has another signer/);
}, 300_000);

test('frames that were changed, messages that are none, and too long ones end the connection only', async () => {
  const codes = new Set<string>();
  await node((socket, n) =>
    shaken(socket, (connection) => {
      // Made when they are sent: frames are numbered.
      const kinds = [
        () => {
          const sealed = connection.seal(delimit(encode('Request', { ping: {} })));
          sealed[n % sealed.length]! ^= 1;
          return sealed;
        },
        () => connection.seal(Buffer.concat([Buffer.of(200, 1), randomBytes(200)])),
        () => connection.seal(Buffer.from('ffffff7f', 'hex')),
        () => connection.seal(delimit(Buffer.from('fa0100', 'hex'))),
        () => randomBytes(5_000),
      ];
      socket.write(kinds[n % kinds.length]!());
    }),
  );
  for (let n = 0; n < 1_200 && codes.size < 3; n += 1) {
    const code = status().problem?.code;
    if (code !== undefined) codes.add(code);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect([...codes].sort()).toEqual(
    expect.arrayContaining(['COMETBFT_FIELD_UNKNOWN', 'COMETBFT_MALFORMED', 'SECRET_CONNECTION']),
  );
  expect(hasSigned()).toBe(false);
}, 300_000);

test('a message that comes byte by byte is not waited for, and pings do not prolong it', async () => {
  await node((socket) =>
    shaken(socket, (connection) => {
      const message = delimit(encode('Request', { pubKey: { chain: 'x'.repeat(100) } }));
      let at = 0;
      const timer = setInterval(() => socket.write(connection.seal(message.subarray(at, ++at))), 60);
      socket.on('close', () => clearInterval(timer));
    }),
  );
  await until(() => status().problem?.code === 'CONNECTION_SLOW', 'the end of a slow message');
  expect(status().problem?.message).toMatch(/does not end a message/);
}, 300_000);

test('a node that asks and never reads is let go, and memory stays bounded', async () => {
  const before = process.memoryUsage().rss;
  let written = 0;
  await node((socket) =>
    shaken(socket, (connection) => {
      socket.pause();
      const pings = Buffer.concat(Array.from({ length: 340 }, () => Buffer.from('023a00', 'hex')));
      const more = (): void => {
        while (!socket.destroyed) {
          written += 1;
          if (socket.write(connection.seal(pings))) continue;
          socket.once('drain', more);
          return;
        }
      };
      more();
    }),
  );
  await until(
    () => status().problem?.code === 'CONNECTION_SLOW',
    'the end of one that does not read',
    120_000,
  );
  expect(written).toBeGreaterThan(10);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
}, 300_000);

test('large requests one after the other do not add up', async () => {
  const test_ = await TestNode.listen();
  signer = await start(test_.address);
  const extension = Buffer.alloc(1_000_000, 1);
  const vote = {
    type: 2,
    height: 5n,
    block: { hash: Buffer.alloc(32, 1), parts: { total: 1, hash: Buffer.alloc(32, 1) } },
  };
  const before = process.memoryUsage().rss;
  for (let n = 0; n < 30; n += 1) {
    const answer = await test_.ask({
      vote: { chain: CHAIN, vote: { ...vote, extension, timestamp: { seconds: 1n } } },
    });
    expect((answer.vote as { error?: unknown }).error).toBeUndefined();
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  await test_.close();
}, 300_000);

test('one that is connected and never asks is shown, and not closed; one that fell silent is', async () => {
  const test_ = await TestNode.listen();
  signer = await start(test_.address);
  await test_.accept();
  await until(() => status().state === 'connected', 'the connection');
  await new Promise((resolve) => setTimeout(resolve, 2 * TIMES.silence));
  expect(status()).toMatchObject({ state: 'connected', asked: {} });
  expect(test_.isConnected).toBe(true);
  await test_.ask({ ping: {} });
  await until(() => status().problem?.code === 'CONNECTION_SILENT', 'the end of silence');
  await test_.accept();
  expect(await test_.ask({ ping: {} })).toHaveProperty('ping');
  await test_.close();
}, 300_000);

test('a node with another signer lets this one wait, and takes it when the other one goes', async () => {
  const test_ = await TestNode.listen();
  const other = await start(test_.address);
  await test_.accept();
  // Both dial: of two signers only the elected one would.
  const second = testSecret();
  await freshRecord(etcd.endpoints, second, CHAIN);
  await other.stop();
  signer = await start(test_.address);
  await until(() => status().state === 'queued', 'the queue');
  test_.drop();
  await test_.accept();
  expect(await test_.ask({ ping: {} })).toHaveProperty('ping');
  await until(() => status().state === 'serving', 'being served');
  await test_.close();
}, 300_000);

test('requests that come at once are answered in their order', async () => {
  const test_ = await TestNode.listen();
  signer = await start(test_.address);
  await test_.accept();
  const vote = (height: bigint) =>
    delimit(
      encode('Request', {
        vote: { chain: CHAIN, vote: { type: 1, height, block: { parts: {} }, timestamp: {} } },
      }),
    );
  test_.write(Buffer.concat([vote(100n), delimit(encode('Request', { ping: {} })), vote(101n), vote(99n)]));
  const heights: unknown[] = [];
  for (let n = 0; n < 4; n += 1) {
    const { vote: answer, ping } = (await test_.read()) as {
      vote?: { vote: { height: bigint }; error?: object };
      ping?: object;
    };
    heights.push(
      ping === undefined ? (answer?.error === undefined ? answer?.vote.height : 'refused') : 'ping',
    );
  }
  expect(heights).toEqual([100n, 'ping', 101n, 'refused']);
  await test_.close();
}, 300_000);
