import { Interface } from 'ethers';
import { expect, test } from 'vitest';
import type { ChainClient } from '../../lib/chain/chain-client.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { readState, wanted } from './apps-reader.ts';

/** The encoding by somebody else's ABI encoder: the oracle. */
const network = new Interface([
  'function appsAfter(uint256 skipped, uint256 most) view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[] list, uint256 next)',
  'function network() view returns ((address networkKey, uint32 epoch, bool onboarded, uint32 delay, uint32 requestWindow, bool platformsOpen))',
]);
const word = (letter: string): string => `0x${letter.repeat(64)}`;
const id = (name: string): string => to0x(appId(name));
const encodeApps = (apps: [app: string, manifest: string][], next = 0): string =>
  network.encodeFunctionResult('appsAfter', [
    apps.map(([app, manifest]) => [app, manifest, word('0'), 7n]),
    next,
  ]);
const askApps = (skipped = 0): string => network.encodeFunctionData('appsAfter', [skipped, 250]);
const encodeNetwork = (onboarded: boolean): string =>
  network.encodeFunctionResult('network', [[`0x${'11'.repeat(20)}`, 3, onboarded, 0, 50, false]]);

const HEAD = {
  number: 5,
  hash: parseHex(word('1')),
  timestamp: 9,
  proven: { by: 'quorum', agreeing: 1, of: 1 },
} as const;

/** A reader of a chain that gives these answers; `calls` are those that were made. */
function readerOf(apps: string | Record<string, string>, onboarded: boolean, calls: unknown[] = []) {
  const chain: ChainClient = {
    chainId: 1,
    head: async () => HEAD,
    block: async () => HEAD,
    call: async (...call) => {
      calls.push(call);
      if (call[1] === network.encodeFunctionData('network')) return encodeNetwork(onboarded);
      return typeof apps === 'string' ? apps : (apps[call[1]] ?? '0x');
    },
    now: () => 0,
    reached: () => ({ block: 5, timestamp: 0, now: 0 }),
  };
  return networkReader(chain, '0xc0');
}

test('what was rolled out and is not in force yet is pending', async () => {
  const app = (name: string, now: string, latest: string) => [id(name), word(now), word(latest), 7n];
  const list = [app('same', 'a', 'a'), app('next', 'a', 'b'), app('new', '0', 'c'), app('gone', '0', '0')];
  const state = await readState(readerOf(network.encodeFunctionResult('appsAfter', [list, 0]), true));
  expect([...state.pending]).toEqual([
    ['next', 'b'.repeat(64)],
    ['new', 'c'.repeat(64)],
  ]);
  expect([...state.apps.keys()]).toEqual(['same', 'next']);
  // Of one with a pending manifest, the contract's time is that one's. No time lies beyond the block that was read.
  expect([...state.since]).toEqual([
    ['same', 7],
    ['gone', 7],
  ]);
  expect(state.at).toBe(9);
});

test('keeps the order, leaves out withdrawn apps and foreign names', async () => {
  const apps = encodeApps([
    [id('zebra'), word('a')],
    [id('gone'), word('0')],
    [word('f'), word('b')],
    [id('ant'), word('c')],
  ]);
  expect([...(await readState(readerOf(apps, true))).apps]).toEqual([
    ['zebra', 'a'.repeat(64)],
    ['ant', 'c'.repeat(64)],
  ]);
  expect((await readState(readerOf(encodeApps([]), false))).apps.size).toBe(0);
});

test('asks for the apps and the network at the one head that the reader accepted', async () => {
  const calls: unknown[] = [];
  const state = await readState(readerOf(encodeApps([[id('a'), word('a')]]), true, calls));
  expect(state.onboarded).toBe(true);
  expect(calls).toEqual([
    ['0xc0', askApps(), HEAD],
    ['0xc0', network.encodeFunctionData('network'), HEAD],
  ]);
});

test('a list of many apps is read in pages, all at the one head', async () => {
  const calls: unknown[] = [];
  const names = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, n): [string, string] => [id(`app-${from + n}`), word('a')]);
  const pages = {
    [askApps()]: encodeApps(names(0, 250), 250),
    // Of 2,000 names all were withdrawn.
    [askApps(250)]: encodeApps([], 2250),
    [askApps(2250)]: encodeApps(names(250, 300)),
  };
  const state = await readState(readerOf(pages, true, calls));
  expect([...state.apps.keys()]).toEqual(names(0, 300).map((_, n) => `app-${n}`));
  expect(calls.filter((call) => (call as unknown[])[2] === HEAD)).toHaveLength(4);
});

test('a list without an end is given up after as many apps as a network can run, not after all its pages', async () => {
  const calls: unknown[] = [];
  const page = (n: number) =>
    encodeApps(
      Array.from({ length: 250 }, (_, at): [string, string] => [id(`app-${n + at}`), word('a')]),
      n + 250,
    );
  const pages = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [askApps(250 * n), page(250 * n)]));
  await expect(readState(readerOf(pages, true, calls))).rejects.toMatchObject({
    code: 'CONTRACT_DATA_INVALID',
  });
  // Ten thousand, and the page that has one more.
  expect(calls.length).toBeLessThanOrEqual(42);
});

test.each([
  ['goes back', encodeApps([[id('a'), word('a')]], 1)],
  ['has more than was asked for', encodeApps(Array.from({ length: 251 }, () => [id('a'), word('a')]))],
])('a list that %s is none', async (_, page) => {
  await expect(readState(readerOf(page, true))).rejects.toMatchObject({ code: 'CONTRACT_DATA_INVALID' });
});

test('a network of one starts no app, unless network.json says that one is enough', () => {
  const apps = new Map([['a', parseHex('a'.repeat(64))]]);
  for (const minimumNodes of [undefined, 2]) {
    expect(() => wanted({ apps, onboarded: false }, minimumNodes)).toThrow('no second node has joined');
    expect(wanted({ apps, onboarded: true }, minimumNodes)).toBe(apps);
  }
  expect(wanted({ apps, onboarded: false }, 1)).toBe(apps);
});

test.each([
  ['nothing', '0x'],
  ['a missing element', encodeApps([[id('a'), word('a')]]).slice(0, -64)],
  ['one too many', `${encodeApps([])}${'0'.repeat(64)}`],
  ['another offset', encodeApps([]).replace('40', '60')],
])('refuses %s', async (_what, reply) => {
  await expect(readState(readerOf(reply, true))).rejects.toMatchObject({ code: 'CONTRACT_DATA_INVALID' });
});
