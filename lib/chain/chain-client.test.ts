/**
 * A real chain behind endpoints that misbehave: each is a small proxy in front of one anvil, told how to lie.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import {
  changeHeader,
  type Header,
  honest,
  type Lie,
  type LyingRpc,
  showBlocks,
  startLyingRpc,
} from '../../test/support/lying-rpc.ts';
import { codeOf } from '../protocol/errors.ts';
import { type ChainClient, chainClient, type Reached } from './chain-client.ts';
import { STALE_AFTER_SECONDS } from './chain-clock.ts';

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

const client = (
  depth = 0,
  monotonic?: () => number,
  further: { from?: Reached; builtAt?: number } = {},
): ChainClient =>
  chainClient({
    config: { chainId: 31337, endpoints: proxies.map(({ url }) => url), quorum: 2, confirmation: { depth } },
    timeout: 3000,
    ...(monotonic === undefined ? {} : { monotonic }),
    ...further,
  });
const refused = (code: string) => expect.objectContaining({ code });
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

test('that a contract refuses a call, a quorum has to say', async () => {
  const chain = client();
  const head = await chain.head();
  const revert: Lie = (method, reply) =>
    method === 'eth_call' ? { error: { code: 3, message: 'execution reverted: no' } } : reply;
  proxies[0]!.lie = revert;
  expect(await chain.call(coinbase, '0x', head).catch(codeOf)).toBe('0x');
  proxies[1]!.lie = revert;
  await expect(chain.call(coinbase, '0x', head)).rejects.toMatchObject({ code: 'CALL_REVERTED' });
});

test('of an endpoint of another chain its host is named, and not the key in its URL', async () => {
  for (const proxy of proxies)
    proxy.lie = (method, reply) => (method === 'eth_chainId' ? { result: '0x1' } : reply);
  const endpoints = proxies.map(({ url }) => `${url}/v3/secret-key`);
  const chain = chainClient({
    config: { chainId: 31337, endpoints, quorum: 2, confirmation: { depth: 0 } },
  });
  const message = await chain.head().then(String, String);
  expect(message).toContain('serves chain 1, not 31337');
  expect(message).not.toContain('secret-key');
});

test('one that never answers makes no read take as long as a call may', async () => {
  proxies[0]!.lie = () => 'stall';
  const config = {
    chainId: 31337,
    endpoints: proxies.map(({ url }) => url),
    quorum: 2,
    confirmation: { depth: 0 },
  };
  const chain = chainClient({ config, timeout: 60_000 });
  const reads = chain.head().then((head) => chain.call(coinbase, '0x', head));
  const never = new Promise((resolve) => setTimeout(resolve, 20_000, 'nothing'));
  expect(await Promise.race([reads, never])).toBe('0x');
}, 30_000);

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

describe("blocks of the test's own", () => {
  const T = 1_800_000_000;
  const HOUR = STALE_AFTER_SECONDS;
  /** Of the monotonic clock, seconds. */
  let passed = 0;
  const clock = () => passed * 1000;
  const block = (number: number, timestamp = T + number * 12, hash?: string): Header => ({
    number,
    timestamp,
    ...(hash === undefined ? {} : { hash }),
  });
  const upTo = (last: number): Header[] => Array.from({ length: last + 1 }, (_, number) => block(number));
  const show = (headers: readonly Header[], which: readonly LyingRpc[] = proxies) => {
    for (const proxy of which) proxy.lie = showBlocks(headers);
  };
  beforeEach(() => {
    passed = 0;
  });

  test("time is the chain's, moves with a monotonic clock, and ends an hour after the newest block", async () => {
    const chain = client(0, clock);
    expect(() => chain.now()).toThrowError(refused('CHAIN_STALE'));
    expect(() => chain.reached()).toThrowError(refused('CHAIN_STALE'));
    show(upTo(5));
    await chain.head();
    expect(chain.now()).toBe(T + 60);
    passed = 2000;
    // A boot clock is taken for 500 ppm too fast.
    expect(chain.now()).toBe(T + 60 + 1999);
    // The same block again is no news: a chain that stands still grows stale, and is not acted on.
    await chain.head();
    passed = HOUR + 10;
    expect(() => chain.now()).toThrowError(refused('CHAIN_STALE'));
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_STALE' });
    expect(chain.reached()).toMatchObject({ block: 5, timestamp: T + 60 });
  });

  test('a chain that halts for hours and goes on: stale meanwhile, right at the first new block', async () => {
    const chain = client(0, clock);
    show(upTo(5));
    await chain.head();
    passed = 3 * HOUR;
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_STALE' });
    show([...upTo(5), block(6, T + 60 + 3 * HOUR)]);
    expect((await chain.head()).number).toBe(6);
    expect(chain.now()).toBe(T + 60 + 3 * HOUR);
  });

  test('a chain whose time jumps ahead takes the clock with it; a machine that was stopped is put right', async () => {
    const chain = client(0, clock);
    show(upTo(5));
    await chain.head();
    show([...upTo(5), block(6, T + 400 * HOUR)]);
    await chain.head();
    expect(chain.now()).toBe(T + 400 * HOUR);
  });

  test('new blocks with timestamps that crawl: the clock goes on, and they are stale', async () => {
    const chain = client(0, clock);
    show(upTo(5));
    await chain.head();
    for (let n = 1; n <= 7; n += 1) {
      passed = n * 500;
      show([...upTo(5), block(5 + n, T + 60 + n)]);
      expect((await chain.head()).number).toBe(5 + n);
      expect(chain.now()).toBeGreaterThan(T + 60 + passed - 3);
    }
    passed = HOUR + 20;
    show([...upTo(5), block(13, T + 68)]);
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_STALE' });
  });

  test('an honest chain replayed slowly: it goes up, and is stale once it is an hour late', async () => {
    const chain = client(0, clock);
    show(upTo(5));
    await chain.head();
    // A block of 12 s each minute.
    for (let minute = 1; minute <= 74; minute += 1) {
      passed = minute * 60;
      show(upTo(5 + minute));
      await chain.head();
    }
    passed = 76 * 60;
    show(upTo(81));
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_STALE' });
  });

  test('the clock never goes back, whatever blocks come', async () => {
    const chain = client(0, clock);
    show([...upTo(5), block(6, T + 1000)]);
    await chain.head();
    let last = chain.now();
    for (const [number, timestamp] of [
      [6, T + 500],
      [7, T],
      [8, 0],
      [9, T + 999],
    ] as const) {
      passed += 5;
      show([...upTo(5), block(number, timestamp)]);
      await chain.head();
      expect(chain.now()).toBeGreaterThanOrEqual(last);
      last = chain.now();
    }
    expect(last).toBe(T + 1000 + 19);
  });

  test('a boot clock that is 400 ppm too fast leaves no honest chain behind, not in ten years', async () => {
    const chain = client(0, clock);
    for (let day = 0; day <= 3650; day += 50) {
      const timestamp = T + day * 86_400;
      passed = day * 86_400 * (1 + 400e-6);
      show([block(day, timestamp)]);
      await chain.head();
      expect(chain.now()).toBe(timestamp);
    }
  });

  test('a head never goes down: the endpoints are waited for, and a quorum that has the block is enough', async () => {
    const chain = client(0, clock);
    show(upTo(100));
    await chain.head();
    show(upTo(40));
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_BEHIND' });
    // Some blocks behind, and without the block.
    show(upTo(99));
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_BEHIND' });
    // Some blocks behind, as they say, and with it: as behind a load balancer.
    const [a, b] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    for (const proxy of [a, b]) {
      proxy.lie = (method, reply, params) =>
        showBlocks(params[0] === 'latest' ? upTo(99) : upTo(100))(method, reply, params);
    }
    expect((await chain.head()).number).toBe(100);
    show(upTo(101));
    expect((await chain.head()).number).toBe(101);
    expect(chain.reached()).toMatchObject({ block: 101, timestamp: T + 101 * 12 });
  });

  test('under a depth, endpoints that are a block behind change nothing', async () => {
    const chain = client(3, clock);
    show(upTo(100));
    expect((await chain.head()).number).toBe(97);
    show(upTo(98));
    expect((await chain.head()).number).toBe(97);
    expect(chain.now()).toBe(T + 1200);
  });

  test('a re-organisation within the rule is followed, at the same height too', async () => {
    const chain = client(0, clock);
    show(upTo(100));
    await chain.head();
    const other = `0x${'ee'.repeat(32)}` as const;
    show([...upTo(99), block(100, T + 1190, other)]);
    expect(await chain.head()).toMatchObject({ number: 100, hash: other });
  });

  test('a far future that one claims stops nothing; one that all but one claim is waited on', async () => {
    const [a, b, c] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    show(upTo(100));
    a.lie = showBlocks([...upTo(100), block(1_000_000)]);
    const chain = client(0, clock);
    expect((await chain.head()).number).toBe(100);
    expect(chain.now()).toBe(T + 1200);
    b.lie = () => undefined;
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_HEADS_APART' });
    b.lie = c.lie;
    expect((await chain.head()).number).toBe(100);
  });

  test('one that has the next block and one that lies about it: the block before is enough', async () => {
    const [a, b, c] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    show(upTo(100));
    a.lie = showBlocks(upTo(101));
    b.lie = showBlocks([...upTo(100), block(101, T + 1212, `0x${'bb'.repeat(32)}`)]);
    expect((await client(0, clock).head()).number).toBe(100);
    // The liar may as well have nothing when it is asked.
    b.lie = (method, reply, params) =>
      showBlocks(params[0] === 'latest' ? upTo(101) : [])(method, reply, params);
    c.lie = showBlocks(upTo(100));
    expect((await client(0, clock).head()).number).toBe(100);
  });

  test('a time that is claimed of an old block counts for nothing: what is agreed on does', async () => {
    const [a, b] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    // A chain that was still for a day before its last block.
    const late = [...upTo(100), block(101, T + 86_400)];
    a.lie = () => undefined;
    show(late, proxies.slice(2));
    b.lie = (method, reply, params) =>
      showBlocks(params[0] === 'latest' ? [block(100, T + 86_390)] : late)(method, reply, params);
    await expect(client(0, clock).head()).rejects.toMatchObject({ code: 'CHAIN_HEADS_APART' });
  });

  test('a process that is started again goes on from where the machine was', async () => {
    const chain = client(0, clock);
    show(upTo(100));
    await chain.head();
    passed = 600;
    const again = client(0, clock, { from: chain.reached() });
    expect(again.now()).toBe(T + 1200 + 599);
    show(upTo(40));
    await expect(again.head()).rejects.toMatchObject({ code: 'CHAIN_BEHIND' });
    show(upTo(110));
    expect((await again.head()).number).toBe(110);
    passed = 2 * HOUR;
    expect(() => client(0, clock, { from: chain.reached() }).now()).toThrowError(refused('CHAIN_STALE'));
  });

  test('a chain that is older than the image is stale', async () => {
    show(upTo(100));
    await expect(client(0, clock, { builtAt: T + 1200 + HOUR + 1 }).head()).rejects.toMatchObject({
      code: 'CHAIN_STALE',
    });
    const chain = client(0, clock, { builtAt: T + 1200 + HOUR });
    await chain.head();
    expect(chain.now()).toBe(T + 1200 + HOUR);
  });

  test('two reads at once: the one that began with the lower head ends with the higher', async () => {
    const chain = client(0, clock);
    const { promise: later, resolve: open } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begins } = Promise.withResolvers<void>();
    for (const proxy of proxies) {
      proxy.lie = async (method, reply, params) => {
        if (params[0] === '0x64') {
          begins();
          await later;
        }
        return showBlocks(upTo(100))(method, reply, params);
      };
    }
    const first = chain.head();
    await begun;
    show(upTo(105));
    expect((await chain.head()).number).toBe(105);
    open();
    expect((await first).number).toBe(105);
  });
});

// The host can silence an honest endpoint: then the liar is half of those who answer, and no median outvotes it.
test.each([
  ['an hour ago', -3600],
  ['in an hour', 3600],
  ['before the image was built', -1_000_000_000],
])(
  'one endpoint whose newest block is of %s, another silent: it is waited on, and the clock stays',
  async (_, off) => {
    const lie: Lie = (method, reply, [which]) => {
      // About the newest block it lies, about the one that is then asked for by number it does not.
      if (method !== 'eth_getBlockByNumber' || which !== 'latest') return reply;
      const header = reply.result as { timestamp: string };
      const timestamp = `0x${Math.max(0, Number(header.timestamp) + off).toString(16)}`;
      return { result: { ...header, timestamp } };
    };
    const chain = client(0, () => 0);
    const { timestamp } = await chain.head();
    proxies[0]!.lie = () => undefined;
    proxies[1]!.lie = lie;
    await expect(chain.head()).rejects.toMatchObject({ code: 'CHAIN_HEADS_APART' });
    expect(chain.now()).toBe(timestamp);
    await expect(client(0, () => 0).head()).rejects.toMatchObject({ code: 'CHAIN_HEADS_APART' });
    // With the third it is outvoted.
    proxies[0]!.lie = honest;
    const fresh = client(0, () => 0);
    await fresh.head();
    expect(fresh.now()).toBe(timestamp);
  },
);
