import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { requireSealingKey, type SealingKeyMessage, sealSecret } from '../../lib/protocol/app-secrets.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { OpenSecretReply, SECRET_MAX_BYTES, sockets } from '../../lib/protocol/sockets.ts';
import vectors from '../../testdata/protocol/app-secrets.json' with { type: 'json' };
import { keyring } from './keyring.ts';
import { type SecretHolder, secretHolder } from './secret.ts';
import { type Joined, serveSiblings } from './siblings.ts';

const domain = { chainId: 31337, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const holderOf = (...epochs: number[]): SecretHolder =>
  secretHolder(
    keyring(new Map(epochs.map((epoch) => [epoch, sha256(utf8(`the secret of epoch ${epoch}`))]))),
    domain,
  );
const keys = holderOf(1);
const run = mkdtempSync(join(tmpdir(), 'dstack-secrets-'));
const cleanups: (() => unknown)[] = [() => rmSync(run, { recursive: true, force: true })];
beforeAll(async () => {
  const servers = await serveSiblings(run, Promise.resolve({ keys } as unknown as Joined), run);
  for (const server of servers) cleanups.push(() => server.close());
});
afterAll(() => {
  for (const cleanup of cleanups.reverse()) cleanup();
});

const open = (socket: string, body: object) =>
  callUnix({
    path: join(run, socket),
    method: 'POST',
    route: '/v1/open-secret',
    body,
    reply: OpenSecretReply,
  });
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

/** As the owner's command does it. */
async function sealed(value: Uint8Array, app = 'shop', name = 'db', by = keys): Promise<string> {
  const said = await by.sealingKey(app);
  const message = { ...domain, type: 'sealing-key', app, ...said, publicKey: toHex(said.publicKey) };
  const key = requireSealingKey(message as SealingKeyMessage, { ...domain, app, networkKey: by.networkKey });
  return new TextDecoder().decode(await sealSecret(value, { ...domain, app, name }, key));
}

test('what was sealed to the key that the network key signed, kubernethes gets opened', async () => {
  for (const value of [utf8('hunter2'), new Uint8Array(), new Uint8Array(SECRET_MAX_BYTES).fill(0x22)]) {
    const envelope = await sealed(value);
    const reply = await open(sockets.replicatorForKubernethes, { app: 'shop', name: 'db', envelope });
    expect(reply.value === toHex(value)).toBe(true);
  }
});

test('and nobody else does', async () => {
  const envelope = await sealed(utf8('hunter2'));
  for (const socket of [
    sockets.replicatorForAgent,
    sockets.replicatorForTls,
    sockets.replicatorForAcme,
    sockets.replicatorForDisk,
  ])
    expect(await code(open(socket, { app: 'shop', name: 'db', envelope })), socket).toBe('NO_ROUTE');
});

test('an envelope opens for its app and name only; a refusal holds nothing of it', async () => {
  const envelope = await sealed(utf8('hunter2'));
  const path = sockets.replicatorForKubernethes;
  expect(await code(open(path, { app: 'other', name: 'db', envelope }))).toBe('SECRET_WRONG_APP');
  expect(await code(open(path, { app: 'shop', name: 'other', envelope }))).toBe('SECRET_WRONG_NAME');
  const renamed = envelope.replace('"app":"shop"', '"app":"other"');
  expect(await code(open(path, { app: 'other', name: 'db', envelope: renamed }))).toBe('SECRET_UNOPENABLE');
  expect(await code(open(path, { app: 'shop', name: 'db', envelope: 'x' }))).toBe('SECRET_MALFORMED');
  expect(await code(open(path, { app: '../x', name: 'db', envelope }))).toBe('BAD_REQUEST');
  const said = await open(path, { app: 'other', name: 'db', envelope }).catch((error: Error) => error);
  expect(String(said)).not.toContain(JSON.parse(envelope).ciphertext.slice(0, 32));
});

test("is the vectors' key, and pinned to the epoch that the app was born in", async () => {
  const [vector] = vectors.vectors;
  const own = secretHolder(keyring(new Map([[vector!.epoch, fromHex(vector!.secret)]])), {
    chainId: vector!.chainId,
    contract: parseAddress(vector!.contract),
  });
  const { publicKey, signature } = await own.sealingKey(vector!.app);
  expect(toHex(sha256(publicKey))).toBe(vector!.publicKeyHash);
  expect(signature).toEqual(vector!.signature);

  const both = holderOf(1, 2);
  expect(toHex((await both.sealingKey('shop', 1)).publicKey)).toBe(
    toHex((await keys.sealingKey('shop')).publicKey),
  );
  const old = utf8(await sealed(utf8('of before the rotation')));
  expect(toHex(await both.openSecret('shop', 'db', old, 1))).toBe(toHex(utf8('of before the rotation')));
  expect(await code(both.openSecret('shop', 'db', old, 2))).toBe('SECRET_UNOPENABLE');
  expect(await code(both.openSecret('shop', 'db', old))).toBe('BIRTH_EPOCH_UNKNOWN');
  expect(await code(both.sealingKey('shop'))).toBe('BIRTH_EPOCH_UNKNOWN');
});
