/** A chain behind three endpoints, some of which claim that it ends earlier than it does, or later. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { honest, type Lie, type LyingRpc, startLyingRpc } from '../../test/support/lying-rpc.ts';
import { auditedHead, HEADS_APART, type HeadOptions, OLD_HEAD_SECONDS } from './head.ts';

const NEWEST = 50;
/** Seconds between two blocks. */
const INTERVAL = 100;
let anvil: Anvil;
const proxies: LyingRpc[] = [];

beforeAll(async () => {
  anvil = await startAnvil({ args: ['--slots-in-an-epoch', '1'] });
  for (let i = 0; i < 3; i += 1) proxies.push(await startLyingRpc(anvil.url));
  await ask('anvil_mine', [`0x${NEWEST.toString(16)}`, `0x${INTERVAL.toString(16)}`]);
});
beforeEach(() => {
  for (const proxy of proxies) proxy.lie = honest;
});
afterAll(async () => {
  for (const proxy of proxies) proxy.stop();
  await anvil.stop();
});

async function ask(method: string, params: unknown[]): Promise<unknown> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(anvil.url, { method: 'POST', headers, body });
  return ((await response.json()) as { result: unknown }).result;
}

/** Says of whatever is the newest that it is this block. */
async function claims(number: number, change: Record<string, unknown> = {}): Promise<Lie> {
  const header = (await ask('eth_getBlockByNumber', [`0x${number.toString(16)}`, false])) as object;
  return (method, reply, params) =>
    method === 'eth_getBlockByNumber' && !String(params[0]).startsWith('0x')
      ? { result: { ...header, ...change } }
      : reply;
}

const read = (options: Partial<HeadOptions> = {}) =>
  auditedHead({
    endpoints: proxies.map(({ url }) => url),
    confirmation: { depth: 0 },
    waitMs: 300,
    ...options,
  });

test("is the newest block when all are there, with its age by the auditor's clock", async () => {
  const { head, chain } = await read();
  const block = await chain.block(NEWEST);
  expect(head).toMatchObject({ number: NEWEST, hash: block.hash, chosen: false });
  const later = await read({ clock: () => block.timestamp + 42 });
  expect(later.head).toMatchObject({ seenAt: block.timestamp + 42, age: 42 });
});

test.each([
  [0, 1],
  [1, 1],
  [2, 1],
  [0, 2],
  [1, 2],
])("from endpoint %i on, %i of three that claim an earlier end can't shorten it", async (first, count) => {
  for (const earlier of [NEWEST - 3, NEWEST - HEADS_APART.seconds / INTERVAL - 1, 1]) {
    for (let at = first; at < first + count; at += 1) proxies[at]!.lie = await claims(earlier);
    await expect(read()).rejects.toMatchObject({
      code: 'AUDIT_HEADS_APART',
      message: expect.stringContaining(`is ${earlier}`),
    });
  }
});

test('heads far apart are not waited for, by blocks or by time', async () => {
  const begin = performance.now();
  const far = NEWEST + HEADS_APART.blocks + 1;
  proxies[1]!.lie = await claims(NEWEST, { number: `0x${far.toString(16)}` });
  await expect(read({ waitMs: 600_000 })).rejects.toMatchObject({ code: 'AUDIT_HEADS_APART' });
  proxies[1]!.lie = await claims(NEWEST - 1, { timestamp: '0x1' });
  await expect(read({ waitMs: 600_000 })).rejects.toMatchObject({ code: 'AUDIT_HEADS_APART' });
  expect(performance.now() - begin).toBeLessThan(120_000);
});

test('one that lags is waited for', async () => {
  const waited: string[] = [];
  proxies[2]!.lie = await claims(NEWEST - 2);
  setTimeout(() => {
    proxies[2]!.lie = honest;
  }, 300);
  const { head } = await read({ waitMs: 120_000, onWait: (who) => waited.push(who) });
  expect(head.number).toBe(NEWEST);
  expect(waited).toEqual([new URL(proxies[2]!.url).host]);
});

test('an end that no other endpoint knows is refused', async () => {
  proxies[1]!.lie = await claims(NEWEST, { number: `0x${(NEWEST + 10).toString(16)}` });
  await expect(read()).rejects.toMatchObject({ code: 'AUDIT_HEADS_APART' });
});

test('all of them can: what they hide shows in its age', async () => {
  for (const proxy of proxies) proxy.lie = await claims(10);
  const { head, chain } = await read();
  const newest = await chain.block(NEWEST);
  expect(head.number).toBe(10);
  const { age } = (await read({ clock: () => newest.timestamp })).head;
  expect(age).toBe(newest.timestamp - head.timestamp);
  expect(age).toBeGreaterThan(OLD_HEAD_SECONDS);
});

test('a block that the auditor names is taken if it is confirmed', async () => {
  expect((await read({ at: 40 })).head).toMatchObject({ number: 40, chosen: true });
  await expect(read({ at: NEWEST + 1 })).rejects.toMatchObject({ code: 'AUDIT_AT' });
  await expect(read({ at: NEWEST, confirmation: { depth: 1 } })).rejects.toMatchObject({ code: 'AUDIT_AT' });
});

test('endpoints of two chains are refused', async () => {
  proxies[2]!.lie = (method, reply) => (method === 'eth_chainId' ? { result: '0x1' } : reply);
  await expect(read()).rejects.toMatchObject({ code: 'CHAIN_DISAGREES' });
});
