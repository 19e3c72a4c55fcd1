/** What one relay asks its endpoint: in a day without any join and with many, and to know all open requests. By counting. */
import { mock } from 'node:test';
import { Type } from 'typebox';
import { Network } from '../host/relay/network.ts';
import { Metrics } from '../lib/daemon/metrics.ts';
import { Rpc } from '../lib/framework/endpoint/rpc.ts';
import { EventLoop } from '../lib/framework/event-loop.ts';
import type { EventHandler } from '../lib/framework/handler.ts';
import { openStore } from '../lib/framework/store.ts';
import { Transactions } from '../lib/framework/transactions/transactions.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import { bareHex, type Hex } from '../lib/protocol/hex.ts';
import { networkTopics, parseNetworkEvent } from '../lib/protocol/network-contract.ts';
import { newPrivateKey } from '../lib/protocol/secp256k1.ts';
import { PacedChain, type PacedChainOptions, word } from '../test/support/paced-chain.ts';
import type { Row } from './growth.ts';
import type { Costs } from './simulation/costs.ts';

/** Of the chain's time: what is measured of each case, after a while in which the relay gets to know its pace. */
const SPAN = 1_200_000;
const WARM_UP = 240_000;
const DAY = 86_400_000;
const BLOCK_MS = 12_000;
const FIRST_BLOCK = 400;

export async function relayRows(tell: (row: Row) => void): Promise<Partial<Costs>> {
  const idle = await relayOf(() => []);
  tell({
    what: 'relay: calls of an idle day',
    size: 0,
    figure: (DAY / SPAN) * idle.calls,
    unit: 'calls',
  });
  for (const perBlock of [1, 10]) {
    const joins = perBlock * (SPAN / BLOCK_MS);
    // Each is registered, and onboarded five blocks later.
    const { calls, seen } = await relayOf((block) => [
      ...joinsOf(block, perBlock, 'Registered'),
      ...joinsOf(block - 5, perBlock, 'Onboarded'),
    ]);
    if (seen < 1.8 * joins) throw new Error(`the relay saw ${seen} of ${2 * joins} events`);
    tell({
      what: 'relay: calls for a join, of so many a block',
      size: perBlock,
      figure: calls / joins,
      unit: 'calls',
    });
  }
  for (const open of [100, 2_000, 5_000]) {
    tell({
      what: 'relay: a block with so many open requests',
      size: open,
      figure: await openBlock(open),
      unit: 'calls',
    });
  }
  return { idleCallsPerMinute: (60_000 / SPAN) * idle.calls };
}

function joinsOf(block: number, perBlock: number, name: 'Registered' | 'Onboarded') {
  if (block <= FIRST_BLOCK) return [];
  return Array.from({ length: perBlock }, (_, n) => ({ name, requestHash: word(1000 * block + n) }));
}

/** The loop, the payer and the look at apps, as a relay runs them, on a chain of twelve seconds. */
async function relayOf(
  events: NonNullable<PacedChainOptions['events']>,
): Promise<{ calls: number; seen: number }> {
  mock.timers.enable({ apis: ['Date', 'setTimeout', 'setInterval'], now: 1_800_000_000_000 });
  try {
    const chain = new PacedChain({ now: Date.now, events });
    const domain = { chainId: 1, contract: chain.address };
    const rpc = new Rpc({ url: chain.url, endpoint: chain, ...domain });
    const network = new Network(rpc, domain);
    const log = { info() {}, warn() {} };
    const store = openStore(':memory:');
    let seen = 0;
    /** Waits for an answer as the relay's own handlers do, by the state of the request. */
    const handler = (name: 'Registered' | 'Onboarded'): EventHandler<Hex> => ({
      name: name.toLowerCase(),
      topic: networkTopics[name],
      decode: (entry) => bareHex((parseNetworkEvent(entry) as { requestHash: Hex }).requestHash),
      foresee: (hashes) => network.foresee(hashes),
      async request(hash) {
        const { state } = await network.request(hash);
        if (state !== 'answered') return { kind: 'wait', reason: 'it is open' };
        seen += 1;
        return { kind: 'skip', reason: 'it is answered' };
      },
      settle: async () => [],
    });
    const loop = new EventLoop({
      ...{
        store,
        source: rpc,
        log,
        message: Type.Object({}),
        confirmations: 2,
        pollInterval: 1000,
        rewind: 256,
      },
      enclave: { request: async () => ({}) },
      host: { submit: async () => {}, publish: async () => {} },
      handlers: [handler('Registered'), handler('Onboarded')],
      startBlock: async (head) => head - 256,
    });
    const payer = new Transactions({
      ...{ store, log, chainId: 1, maxFee: 1n, bumpAfter: 45_000, confirmations: 2, lowBalance: 0n },
      rpc: new Rpc({ url: chain.url, endpoint: chain, heads: rpc.heads, ...domain }),
      privateKey: to0x(newPrivateKey()),
      metrics: new Metrics(),
      pollInterval: 1000,
    });
    const looks = setInterval(() => void network.apps(), 5_000);
    loop.start();
    payer.start();
    await pass(WARM_UP);
    const [calls, before] = [chain.calls, seen];
    await pass(SPAN);
    const found = { calls: chain.calls - calls, seen: seen - before };
    clearInterval(looks);
    const stopped = Promise.all([loop.stop(), payer.stop()]);
    await pass(5_000);
    await stopped;
    store.close();
    return found;
  } finally {
    mock.timers.reset();
  }
}

/** Calls that it takes to know all open requests once something has happened to the contract. */
async function openBlock(open: number): Promise<number> {
  let now = 1_800_000_000_000;
  const hashes = Array.from({ length: open }, (_, n) => word(n + 1));
  const chain = new PacedChain({
    now: () => now,
    events: (block) => {
      if (block === FIRST_BLOCK - 5)
        return hashes.map((requestHash) => ({ name: 'Registered', requestHash }));
      return block === FIRST_BLOCK ? [{ name: 'Registered', requestHash: word(0) }] : [];
    },
  });
  const domain = { chainId: 1, contract: chain.address };
  const network = new Network(new Rpc({ url: chain.url, endpoint: chain, ...domain }), domain);
  const look = async () => {
    const all = hashes.map((hash) => bareHex(hash as Hex));
    network.foresee(all);
    for (const hash of all) await network.request(hash);
  };
  await look();
  now += BLOCK_MS;
  // The pause that any two calls have between them is by this machine's clock.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = chain.calls;
  await look();
  return chain.calls - before;
}

/** Lets the relay do what is due, a quarter of a second at a time. */
async function pass(milliseconds: number): Promise<void> {
  for (let done = 0; done < milliseconds; done += 250) {
    mock.timers.tick(250);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
