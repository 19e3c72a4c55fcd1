import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createSecureServer, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterEach, expect, test } from 'vitest';
import { newKey, notAuthority, purposes, TestAuthority } from '../../test/support/authority.ts';
import { EtcdClient } from './client.ts';
import { status } from './errors.ts';
import { KV, RangeResponseSchema } from './gen/kv_pb.js';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

const ANSWER = toBinary(RangeResponseSchema, create(RangeResponseSchema, { count: 7n }));

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

async function member(each: (stream: ServerHttp2Stream) => void, path?: string): Promise<string> {
  const server: Http2Server = createServer();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    each(stream);
  });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  cleanups.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return path === undefined
    ? `http://127.0.0.1:${(server.address() as { port: number }).port}`
    : `unix://${path}`;
}

function good(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(framed(ANSWER));
}

function client(...endpoints: string[]): EtcdClient {
  const made = new EtcdClient({ endpoints });
  cleanups.push(() => made.close());
  return made;
}

const ask = (one: EtcdClient, signal?: AbortSignal) =>
  one.call(KV.method.range, { key: Buffer.from('k') }, signal);

test('a call over TCP and over a unix socket', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-etcd-client-'));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  for (const endpoint of [await member(good), await member(good, join(folder, 'etcd.sock'))]) {
    expect((await ask(client(endpoint))).count).toBe(7n);
  }
});

test("etcd's refusal comes as it is, in trailers and without an answer at all", async () => {
  const refusal = { 'grpc-status': '14', 'grpc-message': 'etcdserver: no leader%0A' };
  const endpoint = await member((stream) =>
    stream.respond({ ':status': 200, ...refusal }, { endStream: true }),
  );
  await expect(ask(client(endpoint))).rejects.toMatchObject({
    status: status.unavailable,
    message: 'etcdserver: no leader\n',
  });
});

test("a refusal's text of any length, and not escaped as it should be, is a refusal and nothing worse", async () => {
  for (const said of ['%zz', '100%', `%e2%28${'x'.repeat(50_000)}`]) {
    const endpoint = await member((stream) =>
      stream.respond({ ':status': 200, 'grpc-status': '14', 'grpc-message': said }, { endStream: true }),
    );
    const refused = await ask(client(endpoint)).catch((error: Error) => error);
    expect(refused).toMatchObject({ code: 'RPC_REFUSED', status: status.unavailable });
    expect((refused as Error).message).toBe(said.slice(0, 1_000));
  }
});

test('the next member is asked after one that is away, frozen, or no etcd', async () => {
  const cut = await member((stream) => stream.session?.destroy());
  const frozen = await member(() => {});
  const other = await member((stream) => stream.respond({ ':status': 404 }, { endStream: true }));
  for (const bad of ['http://127.0.0.1:9', cut, frozen, other]) {
    const one = client(bad, await member(good));
    await expect(ask(one), bad).rejects.toMatchObject({ code: 'RPC_REFUSED' });
    expect((await ask(one)).count).toBe(7n);
  }
});

test('an answer that is too large, cut, compressed or of another form is none', async () => {
  const answers = [
    Buffer.alloc(5 * 1024 * 1024),
    framed(ANSWER).subarray(0, 6),
    Buffer.concat([Buffer.of(1), framed(ANSWER).subarray(1)]),
    framed(Uint8Array.of(0xff, 0xff, 0xff)),
  ];
  for (const bytes of answers) {
    const endpoint = await member((stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(bytes);
    });
    await expect(ask(client(endpoint))).rejects.toMatchObject({ code: 'RPC_REFUSED' });
  }
});

test('a call ends when its time is over', async () => {
  const endpoint = await member(() => {});
  await expect(ask(client(endpoint), AbortSignal.timeout(50))).rejects.toMatchObject({
    status: status.cancelled,
  });
  await expect(ask(client(endpoint), AbortSignal.abort())).rejects.toMatchObject({
    status: status.cancelled,
  });
});

test.each([
  ...['127.0.0.1:2379', 'unix://relative', 'ftp://x', 'http://127.0.0.1', 'http://127.0.0.1:99999'],
  ...['http://[::1:2379', 'http://127.0.0.1:2379/v3', 'https://user@host:2379', 'http://a b:1'],
])('%s is no endpoint', (endpoint) => {
  expect(() => new EtcdClient({ endpoints: [endpoint] })).toThrow(
    expect.objectContaining({ code: 'ETCD_ENDPOINT' }),
  );
});

test('over TLS a member has to be certified, and so has the client where the member asks for it', async () => {
  const authority = new TestAuthority();
  const [serverKey, clientKey] = [newKey(), newKey()];
  const pemOf = ({ privateKey }: typeof serverKey): string =>
    String(privateKey.export({ format: 'pem', type: 'pkcs8' }));
  const server = createSecureServer({
    key: pemOf(serverKey),
    cert: authority.issue({ key: serverKey, names: ['localhost'] }),
    ca: authority.pem,
    requestCert: true,
    rejectUnauthorized: true,
  });
  server.on('stream', good);
  server.on('tlsClientError', () => {});
  server.on('session', (session) => cleanups.push(() => session.destroy()));
  server.listen(0, 'localhost');
  await once(server, 'listening');
  cleanups.push(() => server.close());
  const endpoints = [`https://localhost:${(server.address() as { port: number }).port}`];
  const forClients = [notAuthority(), purposes('1.3.6.1.5.5.7.3.2')];
  const own = {
    certificate: authority.issue({ key: clientKey, extensions: forClients }),
    key: pemOf(clientKey),
  };
  const over = (tls: { ca: string; certificate?: string; key?: string }): EtcdClient => {
    const made = new EtcdClient({ endpoints, tls });
    cleanups.push(() => made.close());
    return made;
  };
  expect((await ask(over({ ca: authority.pem, ...own }))).count).toBe(7n);
  await expect(ask(over({ ca: authority.pem }))).rejects.toMatchObject({ status: status.unavailable });
  await expect(ask(over({ ca: new TestAuthority().pem, ...own }))).rejects.toMatchObject({
    status: status.unavailable,
  });
});
