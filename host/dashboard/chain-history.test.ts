import { describe, expect, test } from 'vitest';
import type { ContractLog } from '../../lib/framework/handler.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { ChainHistory } from './chain-history.ts';
import { word } from './source.fixture.ts';

const topic = (n: number) => word(n) as Hex;

/** A chain as one endpoint shows it, with a registration in some blocks and the contract's birth in one. */
class FakeChain {
  height = 5_000;
  fork = 0;
  born = 10;
  asked = new Set<number>([20, 4_990]);
  /** Registrations in each of those blocks. */
  each = 1;
  /** Blocks that one call may be about. */
  range = Number.POSITIVE_INFINITY;
  fails = false;
  calls: [number, number][] = [];
  /** Logs that were handed out. */
  given = 0;

  async head() {
    return { number: this.height, hash: word(this.height + this.fork * 1e6) };
  }

  async blockHash() {
    return undefined;
  }

  async logs(from: number, to: number): Promise<ContractLog[]> {
    if (this.fails) throw new Retryable('RPC_UNREACHABLE', 'the endpoint is away');
    if (to - from >= this.range) throw new Retryable('RPC_REFUSED', 'limit exceeded');
    const at = (block: number, topics: readonly Hex[], data: string, logIndex = 0): ContractLog => ({
      blockNumber: block,
      blockHash: topic(block),
      transactionHash: topic(block),
      logIndex,
      topics,
      data,
    });
    const born = { topics: [networkTopics.OwnershipTransferred, word(0), word(7)] as Hex[], data: '0x' };
    const within = [...this.asked].filter((block) => block >= from && block <= to);
    // As lib/framework/endpoint/rpc.ts has it.
    if (within.length * this.each > 10_000) throw new Retryable('RPC_TOO_LARGE', 'too many logs');
    const all = within.flatMap((block) =>
      Array.from({ length: this.each }, (_, nth) =>
        at(block, [parseHex(networkTopics.Registered), topic(block * 1_000 + nth)], word(block), nth + 1),
      ),
    );
    const birth = this.born >= from && this.born <= to ? [at(this.born, born.topics, born.data)] : [];
    this.calls.push([from, to]);
    this.given += birth.length + all.length;
    return [...birth, ...all];
  }
}

async function looks(history: ChainHistory, count: number): Promise<void> {
  for (let nth = 0; nth < count; nth += 1) await history.look();
}

const blocksOf = (history: ChainHistory) => history.events.map(({ block }) => block);

test('the newest blocks come first, then the past, until the contract was born', async () => {
  const chain = new FakeChain();
  const history = new ChainHistory(chain);
  expect(history.status()).toEqual({ from: undefined, complete: false, behind: 0 });
  await history.look();
  expect(blocksOf(history)).toEqual([4_990]);
  expect(history.status().complete).toBe(false);
  await looks(history, 6);
  expect(blocksOf(history)).toEqual([10, 20, 4_990]);
  expect(history.status()).toMatchObject({ complete: true, problem: undefined });
  const { length } = chain.calls;
  await history.look();
  expect(chain.calls).toHaveLength(length);
});

test('new blocks are read with those that may have been replaced: what is gone there is not shown any more', async () => {
  const chain = new FakeChain();
  const history = new ChainHistory(chain);
  await looks(history, 8);
  chain.asked.add(5_001);
  chain.height = 5_001;
  await history.look();
  expect(blocksOf(history)).toEqual([10, 20, 4_990, 5_001]);
  chain.asked = new Set([20, 4_990, 5_000]);
  chain.fork = 1;
  await history.look();
  expect(blocksOf(history)).toEqual([10, 20, 4_990, 5_000]);
  chain.height = 4_999;
  chain.asked.delete(5_000);
  await history.look();
  expect(blocksOf(history)).toEqual([10, 20, 4_990]);
});

test('an endpoint that gives few blocks at once is asked for fewer, and one that is away is left alone for a while', async () => {
  const chain = new FakeChain();
  chain.range = 300;
  let now = 0;
  const history = new ChainHistory(chain, () => now);
  for (let nth = 0; nth < 200; nth += 1) {
    await history.look();
    now += 120_000;
  }
  expect(blocksOf(history)).toEqual([10, 20, 4_990]);
  expect(history.status().complete).toBe(true);
  chain.fails = true;
  chain.height += 1;
  await history.look();
  expect(history.status().problem).toBe('the endpoint is away');
  chain.fails = false;
  const { length } = chain.calls;
  await history.look();
  expect(chain.calls).toHaveLength(length);
  now += 120_000;
  await history.look();
  expect(history.status().problem).toBeUndefined();
});

test('after a long time without anybody who looked, the gap is read too', async () => {
  const chain = new FakeChain();
  const history = new ChainHistory(chain);
  await looks(history, 8);
  chain.height = 9_000;
  chain.asked.add(5_500);
  await looks(history, 8);
  expect(blocksOf(history)).toEqual([10, 20, 4_990, 5_500]);
});

test('what anyone may cause gives way to what the owner did', async () => {
  const chain = new FakeChain();
  chain.height = 1_999;
  chain.asked = new Set(Array.from({ length: 100 }, (_, nth) => 100 + nth));
  const history = new ChainHistory(chain, () => 0, 50);
  await looks(history, 8);
  expect(blocksOf(history)).toEqual([10, ...Array.from({ length: 49 }, (_, nth) => 151 + nth)]);
  expect(history.status()).toMatchObject({ complete: true, cutAt: 150 });
});

describe('a chain on which somebody causes 50 events in each block', () => {
  /** The most that one look cost, of so many while the chain goes on. */
  async function dearest(chain: FakeChain, history: ChainHistory, count: number) {
    let [calls, events] = [0, 0];
    for (let nth = 0; nth < count; nth += 1) {
      const [callsBefore, eventsBefore] = [chain.calls.length, chain.given];
      chain.height += 1;
      chain.asked.add(chain.height);
      await history.look();
      calls = Math.max(calls, chain.calls.length - callsBefore);
      events = Math.max(events, chain.given - eventsBefore);
    }
    return { calls, events };
  }

  const flooded = (): FakeChain => {
    const chain = new FakeChain();
    chain.each = 50;
    chain.asked = new Set(Array.from({ length: chain.height - 999 }, (_, nth) => 1_000 + nth));
    return chain;
  };

  test('a look reads a bounded part, the newest block is there all the same, and what is left out is said', async () => {
    const chain = flooded();
    const history = new ChainHistory(chain, () => 0);
    const { calls, events } = await dearest(chain, history, 20);
    expect(calls).toBeLessThanOrEqual(8);
    // Of the first page nobody knew what it would hold.
    expect(events).toBeLessThanOrEqual(128 * 50);
    expect((await dearest(chain, history, 10)).events).toBeLessThanOrEqual(2_000 + 500);
    expect(history.status()).toMatchObject({ behind: 0, problem: undefined });
    expect(history.events.filter(({ block }) => block === chain.height)).toHaveLength(50);
    expect(history.events).toHaveLength(10_000);
    expect(history.status().cutAt).toBeGreaterThan(chain.height - 300);
  });

  test('what came while nobody looked is read over several looks, and how much is left is said', async () => {
    const chain = new FakeChain();
    chain.each = 10;
    const history = new ChainHistory(chain, () => 0);
    await looks(history, 10);
    for (let nth = 0; nth < 1_000; nth += 1) chain.asked.add(5_001 + nth);
    chain.height += 1_000;
    await history.look();
    const { behind } = history.status();
    expect(behind).toBeGreaterThan(0);
    await looks(history, 1);
    expect(history.status().behind).toBeLessThan(behind);
    await dearest(chain, history, 15);
    expect(history.status()).toMatchObject({ behind: 0, problem: undefined });
    expect(history.events.filter(({ block }) => block === chain.height)).toHaveLength(10);
    // The owner's are not among what is left out.
    expect(history.events[0]!.block).toBe(chain.born);
  });

  test('an endpoint that gives one block at a time is asked for a few in each look, and the head is reached', async () => {
    const chain = flooded();
    chain.range = 1;
    let now = 0;
    const patient = new ChainHistory(chain, () => {
      now += 61_000;
      return now;
    });
    await looks(patient, 20);
    chain.height += 100;
    const before = chain.calls.length;
    await patient.look();
    // The clock of this test says that a second has passed after one page.
    expect(chain.calls.length - before).toBeLessThanOrEqual(1);
    expect(patient.status().behind).toBeGreaterThan(90);
    await looks(patient, 200);
    expect(patient.status().behind).toBe(0);
  });

  test('a block that was replaced while the looks before had not come to the head is read again', async () => {
    const chain = flooded();
    const grow = (blocks: number) => {
      for (let nth = 1; nth <= blocks; nth += 1) chain.asked.add(chain.height + nth);
      chain.height += blocks;
    };
    const history = new ChainHistory(chain, () => 0);
    await looks(history, 5);
    grow(27);
    await looks(history, 1);
    expect(history.status().behind).toBeGreaterThan(0);
    const replaced = chain.height - 7;
    expect(blocksOf(history)).toContain(replaced);
    chain.asked.delete(replaced);
    grow(40);
    await looks(history, 3);
    expect(history.status().behind).toBe(0);
    grow(1);
    await looks(history, 3);
    expect(history.status().behind).toBe(0);
    expect(blocksOf(history)).not.toContain(replaced);
  });
});
