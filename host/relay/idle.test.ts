/** What a relay with nothing to do asks its endpoint, by the parts that ask. */
import { Type } from 'typebox';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { EventLoop } from '../../lib/framework/event-loop.ts';
import { openStore } from '../../lib/framework/store.ts';
import { Transactions } from '../../lib/framework/transactions/transactions.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { PacedChain, type PacedChainOptions, word } from '../../test/support/paced-chain.ts';
import { CalldataCarrier } from '../gossip/calldata/carrier.ts';
import type { Exchange } from '../gossip/carrier.ts';
import { Network } from './network.ts';

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
afterEach(() => void vi.useRealTimers());

const HOUR = 3_600_000;
const POLL = 1_000;

/** The loop, the payer and the look at apps of one relay, as `NetworkService` puts them together. */
function startRelay(options: Partial<PacedChainOptions> = {}) {
  const chain = new PacedChain({ now: Date.now, ...options });
  const network = { chainId: 1, contract: chain.address };
  const rpc = new Rpc({ url: chain.url, endpoint: chain, ...network });
  const log = { info() {}, warn() {} };
  const seen: { block: number; at: number }[] = [];
  const store = openStore(':memory:');
  const loop = new EventLoop({
    store,
    source: rpc,
    enclave: { request: async () => ({}) },
    host: { submit: async () => {}, publish: async () => {} },
    message: Type.Object({}),
    handlers: [
      {
        name: 'see',
        topic: networkTopics.Registered,
        decode: ({ blockNumber }) => blockNumber,
        request: async (block: number) => {
          seen.push({ block, at: Date.now() });
          return { kind: 'skip', reason: 'seen' };
        },
        settle: async () => [],
      },
    ],
    log,
    startBlock: async (head) => head - 256,
    confirmations: 2,
    pollInterval: POLL,
    rewind: 256,
  });
  const payer = new Transactions({
    store,
    rpc: new Rpc({ url: chain.url, endpoint: chain, heads: rpc.heads, ...network }),
    chainId: 1,
    privateKey: to0x(newPrivateKey()),
    log,
    metrics: new Metrics(),
    maxFee: 1n,
    bumpAfter: 45_000,
    confirmations: 2,
    lowBalance: 0n,
    pollInterval: POLL,
  });
  const reader = new Network(rpc, network);
  const looks = setInterval(() => void reader.apps(), 5_000);
  loop.start();
  payer.start();
  const stop = async () => {
    clearInterval(looks);
    const stopped = Promise.all([loop.stop(), payer.stop()]);
    await vi.advanceTimersByTimeAsync(2 * POLL);
    await stopped;
  };
  return { chain, rpc, loop, seen, stop };
}

test('an idle relay makes at most 15,000 calls a day on blocks of twelve seconds', async () => {
  const { chain, loop, stop } = startRelay();
  await vi.advanceTimersByTimeAsync(HOUR / 6);
  const before = chain.calls;
  await vi.advanceTimersByTimeAsync(HOUR);
  const perDay = 24 * (chain.calls - before);
  await stop();
  expect(perDay, JSON.stringify([...chain.asked])).toBeLessThan(15_000);
  expect(loop.cursor()).toBeGreaterThanOrEqual(chain.height - 3);
}, 60_000);

test('messages as calldata cost an idle relay no call, and one with an open request one in sixteen blocks', async () => {
  const callsOf = async (onChain: [subject: string, until: number][]) => {
    const { chain, rpc, stop } = startRelay();
    const carrier = new CalldataCarrier({
      after: 0,
      domain: { chainId: 1, contract: chain.address },
      store: openStore(':memory:'),
      log: { info() {}, warn() {} },
      chain: {
        rpc,
        transactions: { submit() {}, status: () => undefined, address: chain.address },
        nodes: () => 1,
        requestWindow: async () => 256,
        own: () => undefined,
        isOwn: () => false,
        pollMs: POLL,
      },
    });
    carrier.attach({ onChain: () => onChain, last: 0 } as unknown as Exchange);
    carrier.start();
    await vi.advanceTimersByTimeAsync(HOUR / 12);
    const before = chain.calls;
    // 100 blocks.
    await vi.advanceTimersByTimeAsync(HOUR / 3);
    const calls = chain.calls - before;
    const closed = carrier.close();
    await vi.advanceTimersByTimeAsync(2 * POLL);
    await Promise.all([closed, stop()]);
    return calls;
  };
  const idle = await callsOf([]);
  const busy = await callsOf([[word(7).slice(2), 1_000_000]]);
  expect(3 * 24 * idle).toBeLessThan(15_000);
  expect(busy - idle).toBeGreaterThan(0);
  expect(busy - idle).toBeLessThan(9);
}, 60_000);

test('an event is seen as soon as its block is deep enough, whatever else is in the filters', async () => {
  const happens = (block: number) => block > 410 && block % 7 === 0;
  const { chain, seen, stop } = startRelay({
    events: (block) => (happens(block) ? [{ name: 'Registered', requestHash: word(block) }] : []),
  });
  await vi.advanceTimersByTimeAsync(HOUR / 2);
  await stop();
  const due = Array.from({ length: chain.height - 1 }, (_, block) => block).filter(happens);
  expect(seen.map(({ block }) => block)).toEqual(due);
  for (const { block, at } of seen) expect(at - chain.shownAt(block + 2)).toBeLessThan(2 * POLL + 50);
}, 60_000);

test('an endpoint that shows events late, or whose filters lack them, loses none', async () => {
  const late = startRelay({
    events: (block) => (block === 450 ? [{ name: 'Registered', requestHash: word(block) }] : []),
  });
  const call = late.chain.call.bind(late.chain);
  late.chain.call = async (schema, method, params) => {
    const reply = (await call(schema, method, params)) as never;
    if (method === 'eth_getLogs' && late.chain.height < 460) return [] as never;
    if (method !== 'eth_getBlockByNumber') return reply;
    return { ...(reply as object), logsBloom: `0x${'00'.repeat(255)}01` } as never;
  };
  await vi.advanceTimersByTimeAsync(HOUR / 2);
  await late.stop();
  expect(late.seen.map(({ block }) => block)).toEqual([450]);
}, 60_000);
