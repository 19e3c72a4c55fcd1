import { expect, test } from 'vitest';
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
  /** Blocks that one call may be about. */
  range = Number.POSITIVE_INFINITY;
  fails = false;
  calls: [number, number][] = [];

  async head() {
    return { number: this.height, hash: word(this.height + this.fork * 1e6) };
  }

  async blockHash() {
    return undefined;
  }

  async logs(from: number, to: number): Promise<ContractLog[]> {
    if (this.fails) throw new Retryable('RPC_UNREACHABLE', 'the endpoint is away');
    if (to - from >= this.range) throw new Retryable('RPC_REFUSED', 'limit exceeded');
    this.calls.push([from, to]);
    const at = (block: number, topics: readonly Hex[], data: string): ContractLog => ({
      blockNumber: block,
      blockHash: topic(block),
      transactionHash: topic(block),
      logIndex: 0,
      topics,
      data,
    });
    const born = { topics: [networkTopics.OwnershipTransferred, word(0), word(7)] as Hex[], data: '0x' };
    const all = [...this.asked].map((block) =>
      at(block, [parseHex(networkTopics.Registered), topic(block)], word(block)),
    );
    return [at(this.born, born.topics, born.data), ...all].filter(
      ({ blockNumber }) => blockNumber >= from && blockNumber <= to,
    );
  }
}

const blocksOf = (history: ChainHistory) => history.events.map(({ block }) => block);

test('the newest blocks come first, then the past, until the contract was born', async () => {
  const chain = new FakeChain();
  const history = new ChainHistory(chain);
  expect(history.status()).toEqual({ from: undefined, complete: false, problem: undefined });
  await history.look();
  expect(blocksOf(history)).toEqual([4_990]);
  expect(history.status().complete).toBe(false);
  await history.look();
  await history.look();
  expect(blocksOf(history)).toEqual([10, 20, 4_990]);
  expect(history.status()).toMatchObject({ complete: true, problem: undefined });
  const { length } = chain.calls;
  await history.look();
  expect(chain.calls).toHaveLength(length);
});

test('new blocks are read with those that may have been replaced: what is gone there is not shown any more', async () => {
  const chain = new FakeChain();
  const history = new ChainHistory(chain);
  for (let nth = 0; nth < 4; nth += 1) await history.look();
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
  for (let nth = 0; nth < 4; nth += 1) await history.look();
  chain.height = 9_000;
  chain.asked.add(5_500);
  for (let nth = 0; nth < 8; nth += 1) await history.look();
  expect(blocksOf(history)).toEqual([10, 20, 4_990, 5_500]);
});

test('what anyone may cause gives way to what the owner did', async () => {
  const chain = new FakeChain();
  chain.height = 1_999;
  chain.asked = new Set(Array.from({ length: 100 }, (_, nth) => 100 + nth));
  const history = new ChainHistory(chain, Date.now, 50);
  await history.look();
  expect(blocksOf(history)).toEqual([10, ...Array.from({ length: 49 }, (_, nth) => 151 + nth)]);
});
