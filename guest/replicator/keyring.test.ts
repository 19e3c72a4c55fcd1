import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { type KeyPurpose, keyPurposes, signerKeys } from '../../lib/protocol/keys.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import {
  AppKeyReply,
  DiskKeyReply,
  SignerKeysReply,
  sockets,
  TlsKeyReply,
} from '../../lib/protocol/sockets.ts';
import vectors from '../../testdata/protocol/keyring.json' with { type: 'json' };
import { type Keyring, keyring } from './keyring.ts';
import { secretHolder } from './secret.ts';
import { type Joined, serveSiblings } from './siblings.ts';

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanup of cleanups.reverse()) cleanup();
});

/** A ring of the vectors' secrets of these epochs. */
const ringOf = (...epochs: ('1' | '2')[]): Keyring =>
  keyring(new Map(epochs.map((epoch) => [Number(epoch), fromHex(vectors.secrets[epoch])])));
const DISK = fromHex(vectors.diskId);
const { app, tag } = vectors;
const refusal = (code: string) => expect.objectContaining({ code });

/** A ring as one that came by another way than the types allow. */
interface Untyped {
  perEpoch(purpose: string, ...path: unknown[]): unknown;
  pinned(purpose: string, born: number | undefined, ...path: unknown[]): unknown;
}

test("with two epochs a per-epoch key is the newest's, and a pinned one that of its birth", () => {
  for (const ring of [ringOf('1', '2'), ringOf('2', '1')]) {
    expect(ring.epoch).toBe(2);
    expect(toHex(ring.perEpoch('network-key').privateKey)).toBe(vectors.perEpoch.networkKey);
    expect(toHex(ring.perEpoch('tls'))).toBe(vectors.perEpoch.tls);
    for (const born of ['1', '2'] as const) {
      expect(toHex(ring.pinned('disk', Number(born), DISK))).toBe(vectors.pinned[born].disk);
      expect(toHex(ring.pinned('app', Number(born), app, tag))).toBe(vectors.pinned[born].appKey);
    }
  }
});

test("what is sealed is the newest epoch's secret", async () => {
  const kem = await newKemKeyPair();
  const request = new Uint8Array(32).fill(7);
  const sealed = await ringOf('1', '2').perEpoch('seal', kem.publicKey, request);
  expect(toHex(await kem.open(sealed, request))).toBe(vectors.secrets[2]);
});

test('with one epoch a pinned key needs no birth, and a birth in another epoch is refused', () => {
  const ring = ringOf('2');
  expect(toHex(ring.pinned('app', undefined, app, tag))).toBe(vectors.pinned[2].appKey);
  expect(toHex(ring.pinned('app', 2, app, tag))).toBe(vectors.pinned[2].appKey);
  expect(() => ring.pinned('disk', 1, DISK)).toThrowError(refusal('EPOCH_UNKNOWN'));
});

test('with more than one, a pinned key of an unknown birth is refused, rather than guessed', () => {
  const ring = ringOf('1', '2');
  expect(() => ring.pinned('app', undefined, app, tag)).toThrowError(refusal('BIRTH_EPOCH_UNKNOWN'));
  expect(() => ring.pinned('disk', undefined, DISK)).toThrowError(refusal('BIRTH_EPOCH_UNKNOWN'));
  for (const born of [0, 3, -1, 1.5, Number.NaN]) {
    expect(() => ring.pinned('disk', born, DISK)).toThrowError(refusal('EPOCH_UNKNOWN'));
  }
});

test('no purpose is derived by the rule of the other kind', () => {
  const ring = ringOf('1', '2') as unknown as Untyped;
  for (const purpose of Object.keys(keyPurposes) as KeyPurpose[]) {
    if (keyPurposes[purpose] === 'pinned') {
      expect(() => ring.perEpoch(purpose, DISK)).toThrowError(refusal('KEY_PINNED'));
    } else {
      expect(() => ring.pinned(purpose, 1)).toThrowError(refusal('KEY_PER_EPOCH'));
    }
  }
  for (const purpose of ['', 'constructor', '__proto__']) {
    expect(() => ring.perEpoch(purpose)).toThrowError(refusal('KEY_PINNED'));
    expect(() => ring.pinned(purpose, 1)).toThrowError(refusal('KEY_PER_EPOCH'));
  }
});

test('the types refuse the same', () => {
  const ring = ringOf('1');
  // @ts-expect-error a disk's key is pinned
  expect(() => ring.perEpoch('disk', DISK)).toThrow();
  // @ts-expect-error the TLS key follows the epoch
  expect(() => ring.pinned('tls', 1)).toThrow();
});

test("the design's table: what outlives a rotation is pinned, what speaks for the network is not", () => {
  const ruled = (rule: string) =>
    Object.entries(keyPurposes).flatMap(([name, is]) => (is === rule ? [name] : []));
  expect(ruled('pinned').sort()).toEqual([
    ...['app', 'app-ca', 'app-identity', 'app-secrets'],
    ...['disk', 'kv', 'signer'],
  ]);
  expect(ruled('per-epoch').sort()).toEqual(['acme-account', 'network-key', 'seal', 'tls']);
});

test('a ring needs a secret, and a wiped one has none', () => {
  expect(() => keyring(new Map())).toThrowError(refusal('KEYRING_EMPTY'));
  const secrets = new Map([1, 2].map((epoch) => [epoch, new Uint8Array(32).fill(epoch)]));
  const ring = keyring(secrets);
  ring.wipe();
  for (const secret of secrets.values()) expect(secret.every((byte) => byte === 0)).toBe(true);
  expect(() => ring.perEpoch('tls')).toThrow('wiped');
  expect(() => ring.pinned('disk', 1, DISK)).toThrow('wiped');
});

test("the signer's socket: a chain's keys are of the epoch in which they were first used, new ones of the newest", async () => {
  const run = mkdtempSync(join(tmpdir(), 'dstack-keyring-'));
  cleanups.push(() => rmSync(run, { recursive: true, force: true }));
  const keys = secretHolder(ringOf('1', '2'), { chainId: 1, contract: parseAddress(`0x${'11'.repeat(20)}`) });
  const servers = await serveSiblings(run, Promise.resolve({ keys } as unknown as Joined), run);
  for (const server of servers) cleanups.push(() => server.close());
  const ask = (body: object, route = '/v1/signer-keys') =>
    callUnix({
      path: join(run, sockets.replicatorForSigner),
      method: 'POST',
      ...{ route, body, reply: SignerKeysReply },
    });
  const expected = (epoch: 1 | 2, chain: string) => {
    const { seed, identity } = signerKeys(fromHex(vectors.secrets[epoch]), epoch, chain);
    return { epoch, seed: toHex(seed), identity: toHex(identity) };
  };
  expect(await ask({ chain: 'chain-1', epoch: 1 })).toEqual(expected(1, 'chain-1'));
  expect(await ask({ chain: 'chain-1' })).toEqual(expected(2, 'chain-1'));
  expect((await ask({ chain: 'chain-2' })).seed).not.toBe(expected(2, 'chain-1').seed);
  await expect(ask({ chain: 'chain-1', epoch: 3 })).rejects.toMatchObject({ code: 'EPOCH_UNKNOWN' });
  await expect(ask({ chain: '../x' })).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  // It has a use for nothing else.
  await expect(ask({ diskId: vectors.diskId }, '/v1/disk-key')).rejects.toMatchObject({ code: 'NO_ROUTE' });
});

test("the sockets: a disk's key is of its superblock's epoch, a new disk's of the newest; an app's is refused", async () => {
  const run = mkdtempSync(join(tmpdir(), 'dstack-keyring-'));
  cleanups.push(() => rmSync(run, { recursive: true, force: true }));
  const keys = secretHolder(ringOf('1', '2'), { chainId: 1, contract: parseAddress(`0x${'11'.repeat(20)}`) });
  const servers = await serveSiblings(run, Promise.resolve({ keys } as unknown as Joined), run);
  for (const server of servers) cleanups.push(() => server.close());

  const diskKey = (epoch?: number) =>
    callUnix({
      path: join(run, sockets.replicatorForDisk),
      method: 'POST',
      route: '/v1/disk-key',
      body: { diskId: vectors.diskId, ...(epoch === undefined ? {} : { epoch }) },
      reply: DiskKeyReply,
    });
  expect(await diskKey(1)).toEqual({ epoch: 1, key: vectors.pinned[1].disk });
  expect(await diskKey()).toEqual({ epoch: 2, key: vectors.pinned[2].disk });
  await expect(diskKey(3)).rejects.toMatchObject({ code: 'EPOCH_UNKNOWN' });

  const path = join(run, sockets.replicatorForTls);
  expect(await callUnix({ path, method: 'GET', route: '/v1/tls-key', reply: TlsKeyReply })).toEqual({
    epoch: 2,
    privateKey: vectors.perEpoch.tls,
  });
  const appKey = callUnix({
    path: join(run, sockets.replicatorForAgent),
    method: 'POST',
    route: '/v1/app-key',
    body: { app, tag },
    reply: AppKeyReply,
  });
  await expect(appKey).rejects.toMatchObject({ code: 'BIRTH_EPOCH_UNKNOWN' });
});
