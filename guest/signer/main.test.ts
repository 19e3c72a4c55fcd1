/**
 * The daemon as in a VM, a process of its own: its siblings' sockets are this test's, the store is the real one with a real etcd, and the
 * validator's side is the tests' node.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { cometJson, ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { callUnix, listenUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { signerKeys } from '../../lib/protocol/keys.ts';
import type { SignerPart } from '../../lib/protocol/signer-part.ts';
import { type SignerStatus, SignerStatusSchema } from '../../lib/protocol/signer-status.ts';
import { type DiskStatusReply, type SignerOrderReply, sockets } from '../../lib/protocol/sockets.ts';
import { TestNode } from '../../test/signer/support/node.ts';
import { PATIENCE, prevote } from '../../test/signer/support/prevote.ts';
import { app, startKv, type TestKv } from '../../test/support/kv.ts';

// A store in this process, and an etcd, on a machine that may have much to do.
vi.setConfig({ testTimeout: 180_000 });

const secret = new Uint8Array(32).fill(9);
const DISK = parseHex('0123456789abcdef0123456789abcdef');
const root = mkdtempSync(join(tmpdir(), 'dstack-signer-main-'));
const run = join(root, 'run/dstack');
const servers: Server[] = [];
/** By what the replicator and kubernethes were asked. */
const asked: unknown[] = [];
const importedSeed = new Uint8Array(32).fill(42);
let reply: SignerOrderReply = {};
const disk: DiskStatusReply = { state: 'ready', diskId: DISK };
let epoch = 3;
let kv: TestKv;
/** Validators of two chains. */
let first: TestNode;
let second: TestNode;
let daemon: ChildProcess;
let said = '';

const part = (fields: Partial<SignerPart> = {}): SignerPart => ({
  disk: DISK,
  acceptHostRollback: true,
  chains: [
    { id: 'first-1', protocol: 'v0.38', key: 'derived', afterHeight: 0 },
    { id: 'second-1', protocol: 'v1', key: { secret: 'validator' }, afterHeight: 500 },
  ],
  ...fields,
});
let manifests = 0;
/** A manifest of its own each time, as after a rollout. */
const order = (fields: Partial<SignerPart> = {}): NonNullable<SignerOrderReply['order']> => {
  manifests += 1;
  const manifest = manifests.toString(16).padStart(64, '0') as Hex;
  return { app: 'validator', manifest, signer: part(fields) };
};

beforeAll(async () => {
  for (const folder of ['replicator', 'kubernethes', 'disk', 'kv'])
    mkdirSync(join(run, folder), { recursive: true });
  [first, second] = [await TestNode.listen(), await TestNode.listen()];
  const at = (chain: string, { port }: TestNode) => ({ chain, address: '127.0.0.1', port });
  const hints = { validators: [at('first-1', first), at('second-1', second), at('not-named', first)] };
  writeFileSync(join(run, 'host.json'), JSON.stringify(hints));
  const serve = async (path: string, routes: Parameters<typeof serveUnix>[0]['routes']) => {
    servers.push(await serveUnix({ path: join(run, path), routes }));
  };
  await serve(sockets.diskStatus, { 'GET /v1/status': () => disk });
  await serve(sockets.kubernethesForSigner, {
    'GET /v1/signer': () => reply,
    'POST /v1/signer-secret': (body) => {
      asked.push(body);
      const both = Buffer.concat([importedSeed, ed25519Key(importedSeed).publicKey]).toString('base64');
      const file = JSON.stringify({ priv_key: { type: 'tendermint/PrivKeyEd25519', value: both } });
      return { value: toHex(utf8(file)) };
    },
  });
  await serve(sockets.replicatorForSigner, {
    'POST /v1/signer-keys': (body) => {
      asked.push(body);
      const { chain, epoch: born = epoch } = body as { chain: string; epoch?: number };
      const { seed, identity } = signerKeys(secret, born, chain);
      return { epoch: born, seed: toHex(seed), identity: toHex(identity) };
    },
  });
  kv = await startKv();
  reply = { stopped: { code: 'SIGNER_NOT_NAMED', message: 'no manifest' } };
  startDaemon();
});

afterAll(async () => {
  daemon?.kill('SIGKILL');
  for (const server of servers) server.close();
  await Promise.all([first?.close(), second?.close(), kv?.stop()]);
  rmSync(root, { recursive: true, force: true });
});

/** The store's door for the signer, as kv opens it; once. */
async function openDoor(): Promise<void> {
  if (existsSync(join(run, sockets.kvForSigner))) return;
  const callerOf = () => ({ prefix: utf8('d/signer/'), name: 'signer', owner: false });
  await listenUnix(kv.running.door({ callerOf }).server, { path: join(run, sockets.kvForSigner) });
}

function startDaemon(): void {
  const args = [join(import.meta.dirname, 'main.ts'), '--root', root];
  daemon = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  daemon.stdout!.setEncoding('utf8').on('data', (line: string) => {
    said += line;
  });
}

const status = (): Promise<SignerStatus> =>
  callUnix({
    path: join(run, sockets.signerForReplicator),
    method: 'GET',
    route: '/v1/status',
    reply: SignerStatusSchema,
    connectWithin: 20_000,
  });
const stopsFor = (code: string) =>
  vi.waitFor(async () => expect((await status()).stopped?.code).toBe(code), PATIENCE);
const signs = () =>
  vi.waitFor(async () => {
    const { stopped, chains, connections } = await status();
    expect({ stopped, chains: chains.length }).toEqual({ stopped: undefined, chains: 2 });
    expect(connections.map(({ state }) => state)).not.toContain('standby');
  }, PATIENCE);

test('nothing is dialled before the contract orders it, and the status says so', async () => {
  await stopsFor('SIGNER_NOT_NAMED');
  expect(await status()).toMatchObject({ dials: false, chains: [], connections: [] });
  expect([first.queue, asked.length]).toEqual([0, 0]);
});

test('a disk that the manifest does not name, and an old copy that nobody accepts, keep it from signing', async () => {
  reply = { order: order({ disk: parseHex('ff'.repeat(16)) }) };
  await stopsFor('SIGNER_DISK');
  expect(await status()).toMatchObject({ app: 'validator', disk: DISK });
  reply = { order: order() };
  await stopsFor('STORE_UNAVAILABLE');
  await openDoor();
  reply = { order: order({ acceptHostRollback: false }) };
  await stopsFor('HOST_ROLLBACK');
  expect([first.queue, asked.length]).toEqual([0, 0]);
});

test('it signs with the keys of the chains: derived ones, and those that are secrets of the app', async () => {
  reply = { order: order() };
  await Promise.all([first.accept(PATIENCE.timeout), second.accept(PATIENCE.timeout)]);
  await signs();
  const { seed } = signerKeys(secret, 3, 'first-1');
  const keyOf = async (node: TestNode, chain: string) => (await node.ask({ pubKey: { chain } })).pubKey;
  expect(await keyOf(first, 'first-1')).toMatchObject({ key: { ed25519: ed25519Key(seed).publicKey } });
  expect(await keyOf(second, 'second-1')).toMatchObject({ bytes: ed25519Key(importedSeed).publicKey });
  expect(asked).toContainEqual({ manifest: reply.order!.manifest, name: 'validator' });
  expect(await prevote(first, 'first-1', 1)).toMatch(/^[0-9a-f]{128}$/);
  const { chains, connections, rollbackProtected } = await status();
  expect(rollbackProtected).toBe(false);
  expect(chains[0]).toMatchObject({ id: 'first-1', height: '1', round: 0, step: 2, signatures: 1 });
  expect(connections.map(({ chain, state }) => `${chain} ${state}`).sort()).toEqual([
    'first-1 serving',
    'second-1 serving',
  ]);
});

test('nothing at the height of the manifest, or before it, is signed, and a later manifest raises it', async () => {
  for (const height of [499, 500])
    expect(await prevote(second, 'second-1', height)).toContain('SIGN_REGRESSION');
  expect(await prevote(second, 'second-1', 501)).toMatch(/^[0-9a-f]{128}$/);
  const [one, two] = part().chains;
  reply = {
    order: order({
      chains: [
        { ...one!, afterHeight: 40 },
        { ...two!, afterHeight: 0 },
      ],
    }),
  };
  await Promise.all([first.accept(PATIENCE.timeout), second.accept(PATIENCE.timeout)]);
  expect(await prevote(first, 'first-1', 40)).toContain('SIGN_REGRESSION');
  expect(await prevote(first, 'first-1', 41)).toMatch(/^[0-9a-f]{128}$/);
  // A record that is further stays.
  expect(await prevote(second, 'second-1', 501, 2)).toContain('SIGN_CONFLICT');
});

test('while the chain is stale, or the network too small, every request is answered by why, and the connection stays', async () => {
  for (const code of ['CHAIN_STALE', 'NETWORK_TOO_SMALL']) {
    reply = { ...reply, stopped: { code, message: 'told by the test' } };
    await stopsFor(code);
    expect(await prevote(first, 'first-1', 50)).toBe(`${code}: told by the test`);
  }
  reply = { order: reply.order! };
  await signs();
  expect(await prevote(first, 'first-1', 50)).toMatch(/^[0-9a-f]{128}$/);
  expect((await status()).chains[0]).toMatchObject({ height: '50', refusals: expect.any(Number) });
});

test("its records are in a namespace of its own, which no app's reaches", async () => {
  const all = async (endpoint: string) => {
    const client = new EtcdClient({ endpoints: [endpoint] });
    const range = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
    const { kvs } = await vi.waitFor(() => client.call(KV.method.range, range), PATIENCE);
    client.close();
    return kvs.map(({ key }) => Buffer.from(key).toString());
  };
  const own = await all(`unix://${join(run, sockets.kvForSigner)}`);
  expect(own.filter((key) => key.startsWith('signer/state/'))).toHaveLength(2);
  expect(await all(`http://${await kv.open(app('signer'))}`)).toEqual([]);
});

test('killed and started again in a later epoch, it has the same keys, and what it signed is signed no other way', async () => {
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
  epoch = 4;
  startDaemon();
  await first.accept(PATIENCE.timeout);
  await signs();
  expect(await prevote(first, 'first-1', 50, 2)).toContain('SIGN_CONFLICT');
  expect(await prevote(first, 'first-1', 49)).toContain('SIGN_REGRESSION');
  expect(await prevote(first, 'first-1', 51)).toMatch(/^[0-9a-f]{128}$/);
  expect(asked.filter((one) => (one as { epoch?: number }).epoch === 3).length).toBeGreaterThan(1);
  expect((await status()).chains[0]!.publicKey).toBe(
    cometJson(ed25519Key(signerKeys(secret, 3, 'first-1').seed).publicKey).value,
  );
});

test('a manifest that changes nothing for the signer costs no connection; one with another secret under its name begins anew', async () => {
  const chains = part().chains.slice(0, 1);
  await openDoor();
  reply = { order: order({ chains }) };
  await first.accept(PATIENCE.timeout);
  expect(await prevote(first, 'first-1', 60)).toMatch(/^[0-9a-f]{128}$/);
  const [before] = (await status()).chains;
  reply = { order: order({ chains }) };
  const isNow = async () => expect((await status()).manifest).toBe(reply.order!.manifest);
  await vi.waitFor(isNow, PATIENCE);
  expect(first.isConnected).toBe(true);
  expect((await status()).chains).toEqual([before]);
  expect(await prevote(first, 'first-1', 60, 2)).toContain('SIGN_CONFLICT');

  reply = { order: order() };
  await Promise.all([first.accept(PATIENCE.timeout), second.accept(PATIENCE.timeout)]);
  reply = { order: order() };
  await vi.waitFor(isNow, PATIENCE);
  await vi.waitFor(() => expect([first.isConnected, second.isConnected]).toEqual([false, false]), PATIENCE);
});

test('what the contract withdraws is signed no more, and nothing is dialled', async () => {
  reply = { stopped: { code: 'SIGNER_NOT_NAMED', message: 'withdrawn' } };
  await stopsFor('SIGNER_NOT_NAMED');
  await vi.waitFor(async () => expect((await status()).chains).toEqual([]), PATIENCE);
  expect(first.isConnected).toBe(false);
  await expect.poll(() => said.includes('there is nothing to sign')).toBe(true);
});
