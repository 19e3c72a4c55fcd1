import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { REMEMBERED } from '../bridges.ts';
import type { Caller as Known } from '../callers.ts';
import { Apps } from './apps.ts';

const socket = { remoteAddress: '10.90.0.64', localAddress: '10.90.0.1' } as Socket;
const of = (app: string, api: readonly string[]): Known =>
  ({
    app,
    api,
    container: 'web',
    manifestHash: parseHex('11'.repeat(32)),
    address: '',
    gateway: '',
  }) as Known;
let now: Known | DstackError | Promise<Known>;
let told: object[];
let apps: Apps;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  now = of('shop', ['store']);
  told = [];
  const identify = async () => {
    if (now instanceof DstackError) throw now;
    return now;
  };
  apps = new Apps({ identify }, { warn: (fields) => told.push(fields) });
});

afterEach(() => vi.useRealTimers());

test.each([
  ['whose app is superseded', new DstackError('APP_SUPERSEDED', '')],
  ['whose app is no longer granted the store', of('shop', ['info'])],
  ["whose address is another app's", of('other', ['store'])],
])("a connection %s is nobody's any more", async (_, then) => {
  const caller = await apps.callerOf(socket);
  expect(await apps.isStill(socket, caller)).toBe(true);
  now = then;
  expect(await apps.isStill(socket, caller)).toBe(false);
});

test('one app maintains the store if network.json names it, and keeps what is its own as any other', async () => {
  const identify = async () => now as Known;
  const owned = new Apps({ identify }, { warn: () => {} }, 'shop');
  expect(await owned.callerOf(socket)).toEqual({ prefix: utf8('a/shop/'), name: 'shop', owner: true });
  expect((await apps.callerOf(socket)).owner).toBe(false);
  for (const app of ['shop2', 'sho', 'owner']) {
    now = of(app, ['store']);
    expect((await owned.callerOf(socket)).owner).toBe(false);
  }
  // It asks for the store in its manifest, too.
  now = of('shop', ['info']);
  await expect(owned.callerOf(socket)).rejects.toMatchObject({ code: 'STORE_NOT_GRANTED' });
});

test.each(['UNKNOWN_CALLER', 'SOCKET_UNREACHABLE'])(
  'while nobody can say (%s), it is for a while',
  async (code) => {
    const caller = await apps.callerOf(socket);
    now = new DstackError(code, '');
    expect(await apps.isStill(socket, caller)).toBe(true);
    vi.advanceTimersByTime(REMEMBERED + 1);
    expect(await apps.isStill(socket, caller)).toBe(false);
  },
);

test('nor for longer where nobody answers', async () => {
  const caller = await apps.callerOf(socket);
  vi.advanceTimersByTime(REMEMBERED - 5);
  now = new Promise<Known>(() => {});
  expect(await apps.isStill(socket, caller)).toBe(false);
});

test('an app that was not granted the store is told of once an hour, however often it calls', async () => {
  now = of('shop', []);
  for (let n = 0; n < 100; n += 1)
    await expect(apps.callerOf(socket)).rejects.toMatchObject({ code: 'STORE_NOT_GRANTED' });
  expect(told).toEqual([{ app: 'shop', container: 'web', code: 'STORE_NOT_GRANTED' }]);
  now = of('second', []);
  await expect(apps.callerOf(socket)).rejects.toThrow();
  vi.advanceTimersByTime(3_600_001);
  now = of('shop', []);
  await expect(apps.callerOf(socket)).rejects.toThrow();
  expect(told).toHaveLength(3);
});
