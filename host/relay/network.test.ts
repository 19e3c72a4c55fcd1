import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { PacedChain, type PacedChainOptions, word } from '../../test/support/paced-chain.ts';
import { Network } from './network.ts';

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
afterEach(() => void vi.useRealTimers());

const hashOf = (n: number) => parseHex(word(n).slice(2));
const BLOCK = 12_000;

/** @param events by blocks from now on: 1 is the next */
function newNetwork(events: (block: number) => ReturnType<NonNullable<PacedChainOptions['events']>>) {
  const chain: PacedChain = new PacedChain({ now: Date.now, events: (block) => events(block - 399) });
  const rpc = new Rpc({ url: chain.url, endpoint: chain, chainId: 1, contract: chain.address });
  const network = new Network(rpc, { chainId: 1, contract: chain.address });
  const reads = () => chain.asked.get('eth_call') ?? 0;
  return { chain, network, reads };
}
const registered = (n: number) => ({ name: 'Registered' as const, requestHash: word(n) });

test('two and a half thousand open requests take two calls, and none while nothing happens to the contract', async () => {
  const all = Array.from({ length: 2_500 }, (_, n) => n);
  const { network, reads } = newNetwork((block) =>
    block === -5 ? all.map(registered) : block === 4 ? [registered(77_777)] : [],
  );
  const look = async () => {
    network.foresee(all.map(hashOf));
    const states = new Set<string>();
    for (const n of all) states.add((await network.request(hashOf(n))).state);
    expect([...states]).toEqual(['open']);
  };
  await look();
  await look();
  expect(reads()).toBe(2);
  for (let block = 1; block <= 3; block += 1) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    await look();
  }
  expect(reads()).toBe(2);
  await vi.advanceTimersByTimeAsync(BLOCK);
  await look();
  expect(reads()).toBe(4);
});

test('those who ask at the same time share a call, and one who asks alone gets the others read with it', async () => {
  const { network, reads } = newNetwork((block) => (block >= -3 ? [registered(block + 100)] : []));
  const ask = (...which: number[]) =>
    Promise.all(which.map(async (n) => (await network.request(hashOf(n))).state));
  expect(await ask(97, 98, 99, 5)).toEqual(['open', 'open', 'open', 'none']);
  // The first begins before the others are known of.
  expect(reads()).toBeLessThanOrEqual(2);
  await vi.advanceTimersByTimeAsync(BLOCK);
  const before = reads();
  expect(await ask(97)).toEqual(['open']);
  expect(await ask(98, 99)).toEqual(['open', 'open']);
  expect(reads()).toBe(before + 1);
});

test('an answer is seen with its block, an end of the window without any event', async () => {
  const { network } = newNetwork((block) => {
    if (block === -5) return [registered(1)];
    return block === 2 ? [{ name: 'Onboarded', requestHash: word(1) }] : [];
  });
  const states: string[] = [];
  for (let block = 0; block <= 3; block += 1) {
    states.push((await network.request(hashOf(1))).state);
    await vi.advanceTimersByTimeAsync(BLOCK);
  }
  expect(states).toEqual(['open', 'open', 'answered', 'answered']);

  const quiet = newNetwork((block) => (block === -5 ? [registered(1)] : []));
  const { expiresAfter } = await quiet.network.request(hashOf(1));
  const before = quiet.reads();
  while (quiet.chain.height < Number(expiresAfter)) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    await quiet.network.request(hashOf(1));
  }
  // At the last block of its window it is read anew, whatever the filters say; before that, once in sixteen blocks.
  expect(quiet.reads()).toBe(before + 256 / 16);
});

test('the network and its apps are read once, until a block has what changes them', async () => {
  const events = ['Registered', 'RolledOut', 'Bootstrapped', 'Onboarded'] as const;
  const { network, reads } = newNetwork((block) =>
    block >= 1 && block <= 4 ? [{ name: events[block - 1]!, requestHash: word(1) }] : [],
  );
  await Promise.all([network.recent(), network.recent(), network.recent()]);
  await network.recent();
  expect(reads()).toBe(1);
  await network.apps();
  const after: number[] = [];
  for (let block = 1; block <= 4; block += 1) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    for (let times = 0; times < 3; times += 1) await network.apps();
    after.push(reads());
    await network.recent();
    after.push(reads());
  }
  // Who looks at the apps keeps the network in view too.
  expect(after).toEqual([2, 2, 3, 3, 4, 4, 4, 4]);
});

test('what an endpoint showed that was behind its own head is read again some blocks later', async () => {
  const { chain, network } = newNetwork(() => []);
  const call = chain.call.bind(chain);
  let isBehind = true;
  chain.call = async (schema, method, params) => {
    const reply = (await call(schema, method, params)) as never;
    // Of a network that has no key yet.
    return method === 'eth_call' && isBehind ? (`0x${'00'.repeat(192)}` as never) : reply;
  };
  expect((await network.recent()).view.epoch).toBe(0);
  isBehind = false;
  await vi.advanceTimersByTimeAsync(16 * BLOCK);
  expect((await network.recent()).view.epoch).toBe(1);
});

test('what an endpoint showed that was behind its head refuses nothing for long: it is read again before, once a block at most', async () => {
  const { chain, network, reads } = newNetwork(() => []);
  const call = chain.call.bind(chain);
  let isBehind = true;
  chain.call = async (schema, method, params) => {
    const reply = (await call(schema, method, params)) as never;
    return method === 'eth_call' && isBehind ? (`0x${'00'.repeat(192)}` as never) : reply;
  };
  expect((await network.recent()).view.epoch).toBe(0);
  isBehind = false;
  await vi.advanceTimersByTimeAsync(BLOCK);
  expect((await network.recent()).view.epoch).toBe(0);
  expect((await network.recent('anew')).view.epoch).toBe(1);
  const before = reads();
  for (let times = 0; times < 100; times += 1) await network.recent('anew');
  expect(reads()).toBe(before);
  // Whatever strangers send: as often as there is room for it.
  for (let block = 0; block < 15; block += 1) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    for (let times = 0; times < 100; times += 1) await network.recent('anew');
  }
  expect(reads() - before).toBeLessThanOrEqual(15);
  // And no less often without them.
  const after = reads();
  for (let block = 0; block < 17; block += 1) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    await network.recent();
  }
  expect(reads() - after).toBe(1);
});

test('what stays the same is read again after longer and longer pauses, and soon after an event that it should show', async () => {
  const { chain, network } = newNetwork((block) =>
    block === 700 ? [{ name: 'Bootstrapped', requestHash: word(1) }] : [],
  );
  const first = chain.height;
  const readAt: number[] = [];
  const call = chain.call.bind(chain);
  chain.call = async (schema, method, params) => {
    if (method === 'eth_call') readAt.push(chain.height - first);
    return call(schema, method, params) as never;
  };
  while (chain.height < first + 750) {
    await network.recent();
    await vi.advanceTimersByTimeAsync(BLOCK);
  }
  // What is said at the event may be of before it: that is as at the first time.
  expect(readAt).toEqual([0, 16, 48, 112, 240, 496, 700, 716, 748]);
});

test('a request surely is open while no block since its own has an answer or another key, without a call', async () => {
  const event = (number: number, block = 399 + number) => ({
    blockNumber: block,
    blockHash: parseHex(word(1_000_000 + block)),
  });
  const { network, reads } = newNetwork((block) => {
    if (block === 1 || block === 4) return [registered(block)];
    return block === 3 || block === 6
      ? [{ name: block === 3 ? 'Onboarded' : 'Bootstrapped', requestHash: word(1) }]
      : [];
  });
  await network.recent();
  const before = reads();
  const found: boolean[][] = [];
  for (let block = 1; block <= 6; block += 1) {
    await vi.advanceTimersByTimeAsync(BLOCK);
    found.push([await network.isOpenSince(event(1)), await network.isOpenSince(event(4))]);
  }
  expect(found.map(([first]) => first)).toEqual([false, true, false, false, false, false]);
  expect(found.map(([, second]) => second)).toEqual([false, false, false, false, true, false]);
  // Of another fork nothing is known.
  expect(await network.isOpenSince({ ...event(5), blockHash: parseHex(word(1)) })).toBe(false);
  // One for the new key.
  expect(reads()).toBe(before + 1);
});

test('requests that are foreseen and never asked for do not pile up', async () => {
  const { network, chain } = newNetwork(() => []);
  for (let n = 0; n < 40_000; n += 100)
    network.foresee(Array.from({ length: 100 }, (_, at) => hashOf(n + at)));
  await network.request(hashOf(50_000));
  // Eight full ones, and the one that was asked for.
  expect(chain.asked.get('eth_call')).toBeLessThanOrEqual(9);
});
