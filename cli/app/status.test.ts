import { expect, test } from 'vitest';
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { parseHex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import { statusLines, statusObject } from './status.ts';

const hash = (letter: string) => parseHex(letter.repeat(64));
const word = (letter: string) => parseHex(`0x${letter.repeat(64)}`);
const view = (app: string, now: AppView['latest'], latest = now): AppView => ({
  app: to0x(appId(app)),
  manifestHash: now,
  latest,
  from: 1_800_000_000n,
});
const said = (apps: AppStatus[], more: Partial<AppsStatus> = {}): AppsStatus => ({
  apps,
  more: 0,
  rollouts: [],
  ...more,
});
const SINCE = '2027-01-15T08:00:00.000Z';

test('where all agree, nothing differs', () => {
  const serving: AppStatus = { app: 'web', state: 'serving', inForce: hash('a'), serving: hash('a') };
  const all = { chain: [view('web', word('a'))], node: said([serving]), relay: said([serving]) };
  expect(statusLines(all)).toEqual([
    'web',
    `  chain: ${hash('a')} in force since ${SINCE}`,
    `  node:  serving: ${hash('a')} serves`,
    `  relay: serving: ${hash('a')} serves`,
  ]);
  expect(statusLines(all, 'other')).toEqual([]);
});

test('a rollout that fails: who says what, where they differ, why, and until when the old one serves', () => {
  const behind: AppStatus = {
    app: 'web',
    state: 'behind',
    inForce: hash('b'),
    serving: hash('a'),
    supersededSince: 1_799_913_600,
    endsAt: 1_800_000_000,
    trouble: {
      code: 'APP_UNHEALTHY',
      message: 'container web answers / with status 500',
      manifest: hash('b'),
      attempts: 3,
      nextTry: 8,
      logs: { web: ['one', 'two'] },
    },
  };
  const before: AppStatus = { app: 'web', state: 'serving', inForce: hash('a'), serving: hash('a') };
  const rollouts: AppsStatus['rollouts'] = [
    { app: 'web', manifest: hash('b'), at: 1_800_000_000, outcome: 'refused', code: 'APP_UNHEALTHY' },
  ];
  const chain = [view('web', word('b'), word('c'))];
  expect(statusLines({ chain, node: said([behind], { rollouts, more: 2 }), relay: said([before]) })).toEqual([
    'web',
    `  chain: ${hash('b')} in force; ${hash('c')} from ${SINCE} on`,
    `  node:  behind: ${hash('a')} serves, which ends at ${SINCE} if no other takes its place`,
    `  relay: serving: ${hash('a')} serves`,
    `  DIFFERS: the chain has ${hash('b')} in force, the node serves ${hash('a')}`,
    `  DIFFERS: the relay last saw the node serving with ${hash('a')}`,
    '  APP_UNHEALTHY: container web answers / with status 500',
    `  of ${hash('b')}; attempts: 3, the next in 8 s`,
    '  it wrote: 2 lines, npx dstack app logs web',
    '2 more apps are not shown',
    'rollouts',
    `  ${SINCE} web ${hash('b')} refused APP_UNHEALTHY`,
  ]);
});

test('one that has ended serves no more, also while its containers are being stopped', () => {
  const ended: AppStatus = { app: 'web', state: 'ended', inForce: hash('b') };
  const lines = (app: AppStatus) =>
    statusLines({ chain: [view('web', word('b'))], node: said([app]), relay: undefined });
  expect(lines(ended)).toContain('  node:  ended: nothing serves');
  expect(lines({ ...ended, serving: hash('a') })).toContain(`  node:  ended: ${hash('a')} is being stopped`);
});

test('a node that has read another contract than this endpoint shows, that knows no such app, or that says nothing', () => {
  const old: AppStatus = { app: 'web', state: 'serving', inForce: hash('a'), serving: hash('a') };
  const problem = { code: 'CHAIN_UNREACHABLE', message: 'no endpoint' };
  const lines = (node: AppsStatus | undefined, chain = [view('web', word('b'))]) =>
    statusLines({ chain, node, relay: undefined });
  expect(lines(said([old], { problem }))).toEqual([
    'the node does not follow the contract: CHAIN_UNREACHABLE: no endpoint',
    'web',
    `  chain: ${hash('b')} in force since ${SINCE}`,
    `  node:  serving: ${hash('a')} serves`,
    '  relay: says nothing',
    `  DIFFERS: the chain has ${hash('b')} in force, the node has read ${hash('a')}`,
    `  DIFFERS: the chain has ${hash('b')} in force, the node serves ${hash('a')}`,
  ]);
  expect(lines(said([]))).toContain('  DIFFERS: the node does not know the app');
  expect(lines(undefined)).not.toContainEqual(expect.stringContaining('DIFFERS'));
  expect(lines(said([old]), [])).toContain(
    `  DIFFERS: the chain has no manifest in force, the node serves ${hash('a')}`,
  );
  const name = { ...view('web', word('b')), app: parseHex(ZERO_WORD) };
  expect(lines(undefined, [name])).toEqual([]);
});

test('for programs: what each says of one app, or of all; null for who does not answer', () => {
  const serving: AppStatus = { app: 'web', state: 'serving', inForce: hash('a'), serving: hash('a') };
  const other: AppStatus = { app: 'other', state: 'serving', inForce: hash('b'), serving: hash('b') };
  const rollouts: AppsStatus['rollouts'] = [
    { app: 'other', manifest: hash('b'), at: 1_800_000_000, outcome: 'refused', code: 'APP_UNHEALTHY' },
  ];
  const chain = [view('web', word('a'), ZERO_WORD), view('other', word('b'))];
  const all = { chain, node: said([serving, other], { rollouts }), relay: undefined };
  expect(statusObject(all, 'web')).toEqual({
    chain: [{ app: 'web', manifest: word('a'), latest: null, from: 1_800_000_000 }],
    node: { apps: [serving], more: 0, rollouts: [] },
    relay: null,
  });
  expect(statusObject(all)).toMatchObject({ chain: [{ app: 'web' }, { app: 'other' }], node: { rollouts } });
});
