import { Interface } from 'ethers';
import { expect, test } from 'vitest';
import type { ChainClient } from '../../lib/framework/chain-client.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { decodeApps, decodeOnboarded, readState, wanted } from './apps-reader.ts';

const networkInterface = new Interface([
  'function apps() view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[] list)',
  'function network() view returns ((address networkKey, uint32 epoch, bool onboarded, uint32 delay, uint32 requestWindow, bool platformsOpen))',
]);

const word = (letter: string): string => `0x${letter.repeat(64)}`;

/** What a real ABI encoder makes of it: the oracle. */
const encode = (apps: [app: string, manifest: string][]): string =>
  networkInterface.encodeFunctionResult('apps', [
    apps.map(([app, manifest]) => [app, manifest, word('0'), 7n]),
  ]);

const id = (name: string): string => to0x(appId(name));

test('agrees with the ABI, keeps the order, leaves out withdrawn apps and foreign names', () => {
  const reply = encode([
    [id('zebra'), word('a')],
    [id('gone'), word('0')],
    [word('f'), word('b')],
    [id('ant'), word('c')],
  ]);
  expect([...decodeApps(reply)]).toEqual([
    ['zebra', 'a'.repeat(64)],
    ['ant', 'c'.repeat(64)],
  ]);
  expect(decodeApps(encode([])).size).toBe(0);
});

const encodeNetwork = (onboarded: boolean): string =>
  networkInterface.encodeFunctionResult('network', [[`0x${'11'.repeat(20)}`, 3, onboarded, 0, 50, false]]);

test('asks for apps() and network() at the one head that the reader accepted', async () => {
  const head = {
    number: 5,
    hash: word('1') as `0x${string}`,
    timestamp: 0,
    proven: { by: 'quorum', agreeing: 1, of: 1 },
  } as const;
  const calls: unknown[] = [];
  const chain: ChainClient = {
    chainId: 1,
    head: async () => head,
    block: async () => head,
    call: async (...call) => {
      calls.push(call);
      return call[1] === networkInterface.encodeFunctionData('apps')
        ? encode([[id('a'), word('a')]])
        : encodeNetwork(true);
    },
    now: () => 0,
    reached: () => ({ block: 5, timestamp: 0, now: 0 }),
  };
  const state = await readState(chain, '0xc0');
  expect([...state.apps]).toEqual([['a', 'a'.repeat(64)]]);
  expect(state.onboarded).toBe(true);
  expect(calls).toEqual([
    ['0xc0', networkInterface.encodeFunctionData('apps'), head],
    ['0xc0', networkInterface.encodeFunctionData('network'), head],
  ]);
});

test('a network of one starts no app, unless network.json says that one is enough', () => {
  const apps = new Map([['a', 'a'.repeat(64)]]);
  for (const minimumNodes of [undefined, 2]) {
    expect(() => wanted({ apps, onboarded: false }, minimumNodes)).toThrow('no second node has joined');
    expect(wanted({ apps, onboarded: true }, minimumNodes)).toBe(apps);
  }
  expect(wanted({ apps, onboarded: false }, 1)).toBe(apps);
});

test('one node or more: as the ABI has it, and nothing else', () => {
  expect(decodeOnboarded(encodeNetwork(false))).toBe(false);
  expect(decodeOnboarded(encodeNetwork(true))).toBe(true);
  for (const bad of ['0x', encodeNetwork(true).slice(0, -2), encodeNetwork(true).slice(0, 2 + 5 * 64)]) {
    expect(() => decodeOnboarded(bad), bad).toThrow('network()');
  }
  const words = encodeNetwork(true).slice(2).match(/.{64}/g)!;
  words[2] = words[2]!.replace(/1$/, '2');
  expect(() => decodeOnboarded(`0x${words.join('')}`)).toThrow('network()');
});

test.each([
  ['nothing', '0x'],
  ['half a word', '0x00'],
  ['a missing element', encode([[id('a'), word('a')]]).slice(0, -64)],
  ['one too many', `${encode([])}${'0'.repeat(64)}`],
  ['another offset', encode([]).replace('20', '40')],
  [
    'a huge count',
    `0x${toHex(Uint8Array.from([...new Uint8Array(31), 32, ...new Uint8Array(32).fill(255)]))}`,
  ],
])('refuses %s', (_what, reply) => {
  let code = 'accepted';
  try {
    decodeApps(reply);
  } catch (error) {
    code = codeOf(error);
  }
  expect(code).toBe('CONTRACT_REPLY');
});
