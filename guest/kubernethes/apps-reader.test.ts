import { expect, test } from 'vitest';
import type { ChainClient } from '../../lib/framework/chain-client.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { networkInterface } from '../../lib/protocol/network-contract.ts';
import { decodeApps, readApps } from './apps-reader.ts';

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

test('asks for apps() at the head that the reader accepted', async () => {
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
      return encode([[id('a'), word('a')]]);
    },
    now: () => 0,
  };
  expect([...(await readApps(chain, '0xc0'))]).toEqual([['a', 'a'.repeat(64)]]);
  expect(calls).toEqual([['0xc0', networkInterface.encodeFunctionData('apps'), head]]);
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
