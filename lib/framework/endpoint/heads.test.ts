import { expect, test } from 'vitest';
import { startAnvil } from '../../../contracts/local-node.ts';
import { Chain, TestNetwork } from '../../../test/support/guest.ts';
import { PacedChain, word } from '../../../test/support/paced-chain.ts';
import { encodeAllowConfig, networkTopics } from '../../protocol/network-contract.ts';
import { type Header, Heads } from './heads.ts';
import { headsOf, Rpc } from './rpc.ts';

/** The same sequence each time: from 0 to 1. */
const noise = (n: number): number => ((n * 2_654_435_761) % 2 ** 32) / 2 ** 32;

const header = (number: number, timestamp: number, more: Partial<Header> = {}): Header => ({
  number,
  hash: word(number),
  parentHash: word(number - 1),
  timestamp,
  baseFee: undefined,
  logsBloom: undefined,
  ...more,
});

test('blocks of twelve seconds are asked for about once each, and seen about as soon as by asking each second', async () => {
  let now = 1_800_000_000_000;
  // One block in twenty is missing, as on a public test chain; the others are shown a little later than their time.
  const shownAfter = (slot: number) => (noise(slot) < 0.05 ? undefined : 1500 + 1000 * noise(slot + 7));
  const chain = new PacedChain({ now: () => now, shownAfter });
  const rpc = new Rpc({
    url: chain.url,
    endpoint: chain,
    heads: headsOf(chain, () => now),
    chainId: 1,
    contract: chain.address,
  });
  let late = 0;
  let seen = 0;
  let blocks = 0;
  const begun = now;
  for (; now < begun + 24 * 3_600_000; now += Math.min(1000, rpc.rest || 1000)) {
    const { number } = await rpc.head();
    if (number === seen) continue;
    if (seen !== 0 && now - begun > 600_000) {
      late += now - chain.shownAt(number);
      blocks += 1;
    }
    seen = number;
  }
  expect(blocks).toBeGreaterThan(6_500);
  expect(chain.asked.get('eth_getBlockByNumber')).toBeLessThan(11_500);
  // By asking each second it would be half of one.
  expect(late / blocks).toBeLessThan(650);
});

test('a chain without a pace, or a fast one, is asked whenever somebody wants to know', async () => {
  let [now, number, timestamp] = [0, 0, 1_000];
  const heads = new Heads(
    async () => header(number, timestamp),
    () => now,
  );
  for (const pause of [1, 30, 2, 1, 1, 60, 1, 1, 3, 1]) {
    [now, number, timestamp] = [now + 1000 * pause, number + 1, timestamp + pause];
    expect((await heads.newest()).number).toBe(number);
    expect(heads.rest).toBe(0);
  }
});

test('however many ask at once, there is one call; one who would be sure has the endpoint asked sooner', async () => {
  let [now, number, calls] = [1_000_000, 0, 0];
  const heads = new Heads(
    async () => {
      calls += 1;
      return header(number, Math.floor(now / 1000));
    },
    () => now,
  );
  for (; number < 10; number += 1, now += 12_000) await Promise.all([heads.newest(), heads.newest()]);
  expect(calls).toBe(10);
  number = 9;
  now -= 12_000 - 1_000;
  await heads.newest();
  expect(calls).toBe(10);
  await heads.newest('anew');
  await heads.newest('anew');
  expect(calls).toBe(11);
});

test('an endpoint that fails is asked once in a while, however many ask', async () => {
  let [now, calls] = [1_000_000, 0];
  const heads = new Heads(
    async () => {
      calls += 1;
      if (calls < 3) throw new Error('down');
      return header(1, 1);
    },
    () => now,
  );
  for (let n = 0; n < 100; n += 1, now += 10) await expect(heads.newest()).rejects.toThrow('down');
  expect(calls).toBe(2);
  now += 1_000;
  expect((await heads.newest()).number).toBe(1);
});

test.each([
  ['lie beyond all days', (n: number) => 9_000_000_000_000 + 12 * n],
  ['are days apart', (n: number) => 86_400 * n],
])('an endpoint whose times %s is asked again within a quarter of a minute', async (_, timeOf) => {
  let [now, number] = [1_000_000, 0];
  const heads = new Heads(
    async () => header(number, timeOf(number)),
    () => now,
  );
  for (; number < 20; number += 1, now += 12_000) {
    await heads.newest();
    expect(heads.rest).toBeLessThanOrEqual(15_000);
  }
});

test('a block that is not the child of the last one makes what was known of earlier ones unknown', async () => {
  let now = 0;
  let newest = header(1, 10);
  const heads = new Heads(
    async () => newest,
    () => (now += 1000),
  );
  await heads.newest();
  newest = header(2, 11);
  await heads.newest();
  expect([heads.hashOf(1), heads.hashOf(2), heads.breaks]).toEqual([word(1), word(2), 0]);
  newest = header(3, 12, { hash: word(333), parentHash: word(222) });
  await heads.newest();
  expect([heads.hashOf(1), heads.hashOf(2), heads.hashOf(3), heads.breaks]).toEqual([
    undefined,
    undefined,
    word(333),
    1,
  ]);
});

test("a block's filter says that a contract emitted nothing, and never of one that did", async () => {
  const anvil = await startAnvil({});
  try {
    const chain = new Chain(anvil.url);
    const network = await TestNetwork.deploy(chain);
    const { chainId } = network.domain;
    const rpc = new Rpc({ url: anvil.url, chainId, contract: network.address });
    const other = `0x${'12'.repeat(20)}`;
    await rpc.head();
    for (let n = 1; n <= 5; n += 1) {
      await network.asOwner(encodeAllowConfig({ config: word(n) }));
      await new Promise((resolve) => setTimeout(resolve, 250));
      const { number } = await rpc.head();
      expect(rpc.isQuiet(number, number)).toBe(false);
      expect(rpc.isQuiet(number, number, [networkTopics.ConfigAllowed])).toBe(false);
      expect(rpc.isQuiet(number, number, [networkTopics.Registered])).toBe(true);
      const names = (config: number, topic: string = networkTopics.ConfigAllowed) =>
        rpc.names(number, topic, word(config).slice(2));
      expect([names(n), names(n + 100), names(n, networkTopics.Registered)]).toEqual([true, false, false]);
      expect(rpc.heads.isQuiet(number, number, other)).toBe(true);
      // Nothing is known of it.
      expect(rpc.heads.isQuiet(number, number + 1, other)).toBe(false);
    }
    // An empty filter says nothing: there are chains that have no other.
    await chain.mine(1);
    await new Promise((resolve) => setTimeout(resolve, 250));
    const { number } = await rpc.head();
    expect(rpc.isQuiet(number, number)).toBe(false);
  } finally {
    await anvil.stop();
  }
});
