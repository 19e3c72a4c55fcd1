/** The daemon as in a VM: its siblings' sockets are this test's, and what systemd does with etcd.json is too. etcd is real. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { ed25519 } from '@noble/curves/ed25519.js';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { originOf, readCheckpoint } from '../../lib/ledger/checkpoint.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { ledgerKeys, networkKey } from '../../lib/protocol/keys.ts';
import { ledgerKeyOf, parseLedgerEvidence, signLedgerEvidence } from '../../lib/protocol/ledger-evidence.ts';
import { sign } from '../../lib/protocol/secp256k1.ts';
import { type DiskStatusReply, sockets } from '../../lib/protocol/sockets.ts';
import { TestAuthority } from '../../test/support/authority.ts';
import { freePort } from '../../test/support/free-port.ts';

const secret = new Uint8Array(32).fill(9);
const { privateKey, address } = networkKey(secret, 3);
const network = { chainId: 31337, contract: parseAddress(`0x${'ab'.repeat(20)}`) };
const diskId = '0123456789abcdef0123456789abcdef';
const PATIENCE = { timeout: 120_000, interval: 50 };
const root = mkdtempSync(join(tmpdir(), 'dstack-kv-main-'));
const run = join(root, 'run/dstack');
const servers: Server[] = [];
/** Of keeper's part of the store, in the place of the replicator's. */
const authority = new TestAuthority('keeper');
const certified: string[] = [];
/** By what the replicator was asked for keys. */
const asked: unknown[] = [];
let disk: DiskStatusReply = { state: 'opening' };
let port: number;
let said = '';
let daemon: ChildProcess;
let etcd: ChildProcess | undefined;

const container = (app: string, end: number, api: readonly string[]) => ({
  ...{ app, api, container: 'web', manifestHash: parseHex('11'.repeat(32)) },
  ...{ address: `127.0.0.${end}`, gateway: '127.0.0.1' },
});
const containers = [
  container('keeper', 2, ['info', 'store']),
  container('other', 3, ['store']),
  container('stranger', 4, ['info']),
  container('admin', 6, ['store']),
];

beforeAll(async () => {
  for (const folder of ['replicator', 'kubernethes', 'disk', 'etcd'])
    mkdirSync(join(run, folder), { recursive: true });
  for (const folder of ['mnt/encrypted_data/etcd', 'usr/lib/dstack'])
    mkdirSync(join(root, folder), { recursive: true });
  const config = {
    version: 1,
    ...network,
    confirmation: { depth: 0 },
    endpoints: ['http://10.0.2.2:1'],
    quorum: 1,
  };
  writeFileSync(
    join(run, 'network.json'),
    JSON.stringify({
      ...config,
      store: {
        ...{ quotaMiB: 64, owner: 'admin', public: { other: ['x'] } },
        clients: { keeper: { names: ['store.example'], authorities: [authority.pem] } },
      },
    }),
  );
  writeFileSync(
    join(root, 'usr/lib/dstack/flavour.json'),
    '{"version":1,"flavour":"sim","builtAt":1700000000}',
  );
  const keysOf = (body: unknown) => {
    const { log, epoch = 3 } = body as { log: string; epoch?: number };
    return { epoch, log: fromHex(log, 16), ...ledgerKeys(secret, epoch, fromHex(log, 16)) };
  };
  const serve = async (path: string, routes: Parameters<typeof serveUnix>[0]['routes']) => {
    servers.push(await serveUnix({ path: join(run, path), routes }));
  };
  await serve(sockets.diskStatus, { 'GET /v1/status': () => disk });
  await serve(sockets.kubernethesForKv, { 'GET /v1/containers': () => ({ containers, manifests: [] }) });
  await serve(sockets.replicatorForKv, {
    'GET /v1/status': () => ({
      joined: true,
      epoch: 3,
      reached: { block: 5, timestamp: 1_800_000_000, now: 1_800_000_005 },
    }),
    'POST /v1/ledger-keys': (body) => {
      asked.push(body);
      const { epoch, seed, saltKey } = keysOf(body);
      return { epoch, seed: toHex(seed), saltKey: toHex(saltKey) };
    },
    'POST /v1/store-certificate': (body) => {
      const { app, publicKey } = body as { app: string; publicKey: string };
      certified.push(app);
      const key = createPublicKey({ key: Buffer.from(publicKey, 'hex'), format: 'der', type: 'spki' });
      const own = authority.issue({ key: { ...authority.key, publicKey: key }, names: ['store.example'] });
      return { chain: [own, authority.pem].map((pem) => toHex(new X509Certificate(pem).raw)) };
    },
    'POST /v1/ledger-evidence': (body) => {
      const { seed, log } = keysOf(body);
      const publicKey = parseHex(toHex(ed25519.getPublicKey(seed)));
      const said = { ...network, networkKey: address, epoch: 3, log: parseHex(toHex(log)), publicKey };
      return signLedgerEvidence(said, (digest) => sign(digest, privateKey));
    },
  });
  port = await freePort();
});

afterAll(async () => {
  for (const child of [daemon, etcd]) child?.kill('SIGKILL');
  for (const server of servers) server.close();
  rmSync(root, { recursive: true, force: true });
});

function startDaemon(): void {
  const args = [join(import.meta.dirname, 'main.ts'), '--root', root, '--listen', `127.0.0.1:${port}`];
  daemon = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  daemon.stdout!.setEncoding('utf8').on('data', (line: string) => {
    said += line;
  });
}

/** A call of the JSON gateway from a container's address. @returns the status with the body, or why there is none */
function call(from: number, path: string, body?: object): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const options = { host: '127.0.0.1', port, path, localAddress: `127.0.0.${from}`, agent: false };
  const method = body === undefined ? 'GET' : 'POST';
  request({ ...options, method }, (reply) =>
    text(reply).then((read) => resolve(`${reply.statusCode} ${read}`)),
  )
    .on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    .end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}
const base64 = (word: string) => Buffer.from(word).toString('base64');
const put = (from: number, value: string) =>
  call(from, '/v3/kv/put', { key: base64('x'), value: base64(value) });
const get = (from: number) => call(from, '/v3/kv/range', { key: base64('x') });

test('a node without a data disk has no store: the daemon ends, and is not to be started again', async () => {
  disk = { state: 'absent' };
  startDaemon();
  expect(await once(daemon, 'exit')).toEqual([0, null]);
  expect(said).toContain('STORE_NO_DISK');
  expect(existsSync(join(run, 'kv/etcd.json'))).toBe(false);
});

test('it waits for the disk, has etcd started there, and serves once it answers', async () => {
  disk = { state: 'opening' };
  startDaemon();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(asked).toEqual([]);
  disk = { state: 'ready', diskId: parseHex(diskId) };
  const configuration = join(run, 'kv/etcd.json');
  await vi.waitFor(() => expect(existsSync(configuration)).toBe(true), PATIENCE);
  const { command, args, env } = toolCommand('etcd', ['--config-file', configuration]);
  etcd = spawn(command, args, { env: { ...process.env, ...env }, stdio: 'ignore' });
  await vi.waitFor(() => expect(said).toContain('the store listens'), PATIENCE);
  expect(asked).toEqual([{ log: diskId }]);
  expect(JSON.parse(readFileSync(join(root, 'mnt/encrypted_data/kv/born.json'), 'utf8'))).toEqual({
    epoch: 3,
  });
});

test('each app has its own keys; one that did not ask for the store, and an address of nobody, get nothing', async () => {
  expect(await put(2, 'of keeper')).toMatch(/^200 /);
  expect(await put(3, 'of other')).toMatch(/^200 /);
  expect(await get(2)).toContain(base64('of keeper'));
  expect(await get(3)).toContain(base64('of other'));
  for (const from of [4, 5]) expect(await get(from)).toBe('ECONNRESET');
  const lines = said.split('\n').filter((line) => line.includes('STORE_NOT_GRANTED'));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('container web of stranger');
  // An app is no owner.
  expect(await call(2, '/metrics')).toMatch(/^403 /);
});

test('the app that network.json names maintains the store, and is in its own namespace for the rest', async () => {
  const metrics = await call(6, '/metrics');
  expect(metrics).toMatch(/^200 /);
  expect(metrics).toContain('kv_namespace_used_bytes{namespace="a/keeper/"}');
  const snapshot = (from: number) => call(from, '/v3/maintenance/snapshot', {});
  const blobs = (await snapshot(6))
    .replace(/^200 /, '')
    .trim()
    .split('\n')
    .map((line) => Buffer.from(JSON.parse(line).result.blob ?? '', 'base64'));
  expect(Buffer.concat(blobs).includes('of keeper')).toBe(true);
  for (const path of ['defragment', 'hash', 'alarm']) {
    expect(await call(6, `/v3/maintenance/${path}`, {})).toMatch(/^200 /);
    expect(await call(2, `/v3/maintenance/${path}`, {})).toMatch(/^403 /);
  }
  expect(await snapshot(2)).not.toContain('blob');
  expect(await get(6)).not.toContain(base64('of keeper'));
});

test('clients outside come by a socket of the front, for the apps that network.json names; those learn what to trust', async () => {
  expect(statSync(join(run, sockets.kvForFront)).isSocket()).toBe(true);
  await vi.waitFor(async () => expect(await call(2, '/clients.pem')).toBe(`200 ${authority.pem}`), PATIENCE);
  expect(certified).toEqual(['keeper']);
  for (const from of [3, 6]) expect(await call(from, '/clients.pem')).toMatch(/^404 /);
});

test('the signer has a namespace of its own, behind a socket that no app can reach', async () => {
  const client = new EtcdClient({ endpoints: [`unix://${join(run, sockets.kvForSigner)}`] });
  const all = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
  await vi.waitFor(() => client.call(KV.method.put, { key: utf8('x'), value: utf8('of signer') }), PATIENCE);
  const { kvs } = await vi.waitFor(() => client.call(KV.method.range, all), PATIENCE);
  client.close();
  expect(kvs.map(({ value }) => Buffer.from(value).toString())).toEqual(['of signer']);
  expect(await get(2)).toContain(base64('of keeper'));
  expect(statSync(join(run, sockets.kvForSigner)).mode & 0o777).toBe(0o600);
});

test('the connections of an app that is granted the store no longer end, and of no other', async () => {
  const watching = (from: number) => {
    const options = {
      host: '127.0.0.1',
      port,
      path: '/v3/watch',
      localAddress: `127.0.0.${from}`,
      agent: false,
    };
    const asked = request({ ...options, method: 'POST' }).on('error', () => {});
    asked.write(JSON.stringify({ create_request: { key: base64('x') } }));
    return { ended: once(asked, 'close'), asked };
  };
  const [mine, theirs] = [watching(2), watching(3)];
  let isOver = false;
  void theirs.ended.then(() => {
    isOver = true;
  });
  containers[0] = container('keeper', 2, ['info']);
  await mine.ended;
  expect(isOver).toBe(false);
  expect(await get(2)).toBe('ECONNRESET');
  containers[0] = container('keeper', 2, ['info', 'store']);
  await vi.waitFor(async () => expect(await get(2)).toMatch(/^200 /), PATIENCE);
  theirs.asked.destroy();
});

test("its log is the one of this disk, signed by a key that the network key vouches for, with the chain's time", async () => {
  const evidence = parseLedgerEvidence((await call(2, '/ledger/evidence.json')).replace(/^200 /, ''));
  const { seed } = ledgerKeys(secret, 3, fromHex(diskId, 16));
  expect(toHex(ledgerKeyOf(evidence, network, address))).toBe(toHex(ed25519.getPublicKey(seed)));
  await vi.waitFor(async () => {
    const head = readCheckpoint((await call(2, '/ledger/checkpoint')).replace(/^200 /, ''));
    expect(head).toMatchObject({ origin: originOf(network, fromHex(diskId, 16)), time: 1_800_000_005 });
    expect(head.size).toBeGreaterThanOrEqual(2);
    // What network.json makes public can be read in it, and nothing else.
    const entries = await call(2, `/ledger/tile/entries/000.p/${head.size}`);
    expect(entries).toContain('of other');
    expect(entries).not.toContain('of keeper');
  }, PATIENCE);
});

test('started again, it takes up the same log with the keys of the epoch in which that was begun', async () => {
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
  said = '';
  startDaemon();
  await vi.waitFor(() => expect(said).toContain('the store listens'), PATIENCE);
  expect(asked.at(-1)).toEqual({ log: diskId, epoch: 3 });
  expect(await get(2)).toContain(base64('of keeper'));
});
