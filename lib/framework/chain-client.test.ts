/**
 * A real chain behind endpoints that misbehave: each is a small proxy in front of one anvil, told how to lie.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../test/support/anvil.ts';
import {
  changeHeader,
  honest,
  type Lie,
  type LyingRpc,
  startLyingRpc,
} from '../../test/support/lying-rpc.ts';
import { chainClient, STALE_AFTER_SECONDS } from './chain-client.ts';

let anvil: Anvil;
const proxies: LyingRpc[] = [];

beforeAll(async () => {
  anvil = await startAnvil();
  for (let i = 0; i < 3; i += 1) proxies.push(await startLyingRpc(anvil.url));
  await mine(5);
});
beforeEach(() => {
  for (const proxy of proxies) proxy.lie = honest;
});
afterAll(async () => {
  for (const proxy of proxies) proxy.stop();
  await anvil.stop();
});

async function rpc(method: string, params: unknown[] = []): Promise<unknown> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const response = await fetch(anvil.url, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json' },
  });
  return ((await response.json()) as { result: unknown }).result;
}
const mine = (blocks: number) => rpc('anvil_mine', [`0x${blocks.toString(16)}`]);

const client = (depth = 0, monotonic?: () => number) =>
  chainClient({
    config: { chainId: 31337, endpoints: proxies.map(({ url }) => url), quorum: 2, confirmation: { depth } },
    timeout: 1000,
    ...(monotonic === undefined ? {} : { monotonic }),
  });
const coinbase = '0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266';

test('reads the newest block, and one so many blocks deep', async () => {
  const head = await client().head();
  expect(head).toMatchObject({ number: 5, proven: { by: 'quorum', agreeing: 3, of: 3 } });
  expect((await client(2).head()).number).toBe(3);
  expect(await client().call(coinbase, '0x', head)).toBe('0x');
});

test.each<[string, Lie]>([
  ['hangs up', () => undefined],
  ['never answers', () => 'stall'],
  ['answers with no JSON', () => 'hello'],
  ['answers with a list', () => '[]'],
  ['answers with a giant', () => `{"jsonrpc":"2.0","result":"${'0'.repeat(2_000_000)}"}`],
  ['refuses', () => ({ error: { code: -32005, message: 'rate limited' } })],
  ['serves another chain', (method, reply) => (method === 'eth_chainId' ? { result: '0x1' } : reply)],
  ['invents a later block', changeHeader({ number: '0xffffff' })],
  ['invents another hash', changeHeader({ hash: `0x${'11'.repeat(32)}` })],
  ['forgets the hash', changeHeader({ hash: null })],
  ['says a number that is none', changeHeader({ number: '0x0x5' })],
  ['changes what a call returns', (method, reply) => (method === 'eth_call' ? { result: '0x01' } : reply)],
])('one endpoint that %s is outvoted', async (_, lie) => {
  proxies[1]!.lie = lie;
  const chain = client();
  const head = await chain.head();
  expect(head.number).toBe(5);
  expect(await chain.call(coinbase, '0x', head)).toBe('0x');
});

test('two that are silent are too many', async () => {
  proxies[0]!.lie = proxies[1]!.lie = () => undefined;
  await expect(client().head()).rejects.toMatchObject({ code: 'CHAIN_UNREACHABLE' });
});

test('two that differ, each in another way, are too many; a tie never wins', async () => {
  proxies[0]!.lie = changeHeader({ hash: `0x${'11'.repeat(32)}` });
  proxies[1]!.lie = changeHeader({ hash: `0x${'22'.repeat(32)}` });
  await expect(client().head()).rejects.toMatchObject({ code: 'CHAIN_DISAGREES' });
});

test('a block other than the one asked for is refused, even by all', async () => {
  for (const proxy of proxies) {
    proxy.lie = (method, reply) =>
      method === 'eth_getBlockByNumber' ? { result: { ...(reply.result as object), number: '0x2' } } : reply;
  }
  await expect(client().block(3)).rejects.toMatchObject({ code: 'CHAIN_DISAGREES' });
});

test('time is the chain’s, moves with a monotonic clock, and ends an hour after the last new block', async () => {
  let passed = 0;
  const chain = client(0, () => passed * 1000);
  expect(() => chain.now()).toThrowError(expect.objectContaining({ code: 'CHAIN_STALE' }));
  const { timestamp } = await chain.head();
  expect(chain.now()).toBe(timestamp);
  passed = 1800;
  expect(chain.now()).toBe(timestamp + 1800);
  // The same block again is no news: a chain that stands still grows stale.
  await chain.head();
  passed = STALE_AFTER_SECONDS + 1;
  expect(() => chain.now()).toThrowError(expect.objectContaining({ code: 'CHAIN_STALE' }));
  await mine(1);
  await chain.head();
  expect(chain.now()).toBeGreaterThanOrEqual(timestamp);
});

// The host can silence an honest endpoint: then the liar is half of those who answer, and no median outvotes it.
test.each([
  ['an hour ago', -3600],
  ['in an hour', 3600],
  ['before the image was built', -1_000_000_000],
])('one endpoint whose newest block is of %s, another silent: the clock stays', async (_, off) => {
  let asked = 0;
  proxies[0]!.lie = () => undefined;
  proxies[1]!.lie = (method, reply) => {
    // About the newest block it lies, about the one that is then asked for by number it does not.
    if (method !== 'eth_getBlockByNumber' || asked++ % 2 === 1) return reply;
    const header = reply.result as { timestamp: string };
    return {
      result: { ...header, timestamp: `0x${Math.max(0, Number(header.timestamp) + off).toString(16)}` },
    };
  };
  const chain = client(0, () => 0);
  const { timestamp } = await chain.head();
  expect(asked).toBe(2);
  expect(chain.now()).toBe(timestamp);
});
