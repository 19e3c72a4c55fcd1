/** What becomes of the contract's events: who is in, who asks, what runs, what is allowed. */
import { expect, test } from 'vitest';
import { to0x } from '../../lib/protocol/encoding.ts';
import type { Address, Hex } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import { allowList, pending } from './allow-list.ts';
import { apps } from './apps.ts';
import type { Seen } from './chain-history.ts';
import { nodes } from './nodes.ts';
import { onboardings } from './onboardings.ts';
import { rollouts } from './rollouts.ts';
import { word } from './source.fixture.ts';

const hex = (n: number) => word(n) as Hex;
const ADDRESS = `0x${'11'.repeat(20)}` as Address;
const app = to0x(appId('shop'));

/** Each in a block of its own, from 1 on. */
const seen = (...events: readonly NetworkEvent[]): readonly Seen[] =>
  events.map((event, at) => ({ event, block: at + 1, index: 0, transaction: word(1000 + at) }));

const bootstrapped = (epoch: bigint): NetworkEvent => ({
  name: 'Bootstrapped',
  epoch,
  networkKey: ADDRESS,
  measurement: hex(1),
  config: hex(2),
  platform: hex(3),
  quoteHash: hex(4),
  blockNumber: 1n,
  blockHash: hex(5),
});
const registered = (n: number): NetworkEvent => ({ name: 'Registered', requestHash: hex(n), node: ADDRESS });
const onboarded = (n: number, platform = 3): NetworkEvent => ({
  name: 'Onboarded',
  requestHash: hex(n),
  measurement: hex(1),
  platform: hex(platform),
});

test('the last word on a value counts, and the delay holds back what is to come', () => {
  const events = seen(
    { name: 'MeasurementAllowed', measurement: hex(1), from: 100n },
    { name: 'MeasurementAllowed', measurement: hex(2), from: 900n },
    { name: 'PlatformAllowed', platform: hex(3), from: 100n },
    { name: 'PlatformRevoked', platform: hex(3) },
    { name: 'ConfigAllowed', config: hex(4), from: 2n ** 64n - 1n },
    { name: 'DelaySet', delay: 60, from: 700n },
    { name: 'PlatformsOpened', from: 800n },
    { name: 'PlatformsClosed' },
  );
  const list = allowList(events, 500);
  expect(list.map(({ kind, value, state, from }) => [kind, value, state, from])).toEqual([
    ['config', hex(4), 'pending', Number(2n ** 64n - 1n)],
    ['platform', hex(3), 'revoked', null],
    ['measurement', hex(2), 'pending', 900],
    ['measurement', hex(1), 'allowed', 100],
  ]);
  expect(pending(events, list, 500).map(({ what, from }) => [what, from])).toEqual([
    ['delay', 700],
    ['measurement', 900],
    ['config', Number(2n ** 64n - 1n)],
  ]);
  expect(allowList(events, 900)[2]!.state).toBe('allowed');
});

test('who is in: the first node, those that were onboarded, and whether they would be let in today', () => {
  const events = seen(bootstrapped(1n), registered(7), onboarded(7), registered(8), onboarded(8, 9), {
    name: 'PlatformRevoked',
    platform: hex(9),
  });
  const rows = nodes(events, allowList(events, 0), (request) => request === word(7));
  expect(
    rows.map(({ node, request, standing, own, block }) => ({ node, request, standing, own, block })),
  ).toEqual([
    { node: ADDRESS, request: word(8), standing: 'platform revoked', own: false, block: 5 },
    { node: ADDRESS, request: word(7), standing: 'allowed', own: true, block: 3 },
    { node: null, request: null, standing: 'allowed', own: false, block: 1 },
  ]);
  const later = seen(bootstrapped(1n), bootstrapped(2n), onboarded(7));
  expect(nodes(later, [], () => false).map(({ standing }) => standing)).toEqual([
    'allowed',
    'allowed',
    'other epoch',
  ]);
});

test('a request is asked, answered or expired, and says what this host does about it', () => {
  const events = seen(registered(1), registered(2), registered(3), onboarded(2));
  const rows = onboardings(events, {
    requestWindow: 10,
    head: 12,
    waitingFor: 'an answer',
    work: [{ transaction: word(1002), reason: 'its turn' }],
    isOwn: (request) => request === word(2),
  });
  expect(
    rows.map(({ request, state, answeredBlock, note }) => [request, state, answeredBlock, note]),
  ).toEqual([
    [word(3), 'asked', null, 'its turn'],
    [word(2), 'answered', 4, 'an answer'],
    [word(1), 'expired', null, 'nobody answered in time'],
  ]);
});

test('what the owner rolled out, and what this node made of it', () => {
  const events = seen(
    { name: 'RolledOut', app, manifestHash: hex(1), from: 100n },
    { name: 'RolledOut', app, manifestHash: hex(2), from: 200n },
    { name: 'RolledBack', app, manifestHash: hex(0) },
    { name: 'Withdrawn', app },
  );
  const status = {
    apps: [],
    more: 0,
    rollouts: [
      { app: 'shop', manifest: word(1).slice(2) as Hex, at: 110, outcome: 'deployed' },
      {
        app: 'shop',
        manifest: word(2).slice(2) as Hex,
        at: 210,
        outcome: 'refused',
        code: 'ARCHIVE_MISSING',
      },
    ],
  } as const;
  const rows = rollouts(events, { ...status, apps: [], rollouts: [...status.rollouts] });
  expect(rows.map(({ what, manifest, code }) => [what, manifest, code])).toEqual([
    ['withdrawn by the owner', null, null],
    ['rolled back', null, null],
    ['refused', word(2), 'ARCHIVE_MISSING'],
    ['rolled out', word(2), null],
    ['deployed', word(1), null],
    ['rolled out', word(1), null],
  ]);
});

test('an app that only an endpoint or only the node knows is shown too, by whatever name', () => {
  const odd = `0x${'ff'.repeat(32)}` as Hex;
  const rows = apps([{ app: odd, manifestHash: hex(1), latest: hex(2), from: 5n }], {
    apps: [{ app: 'left', state: 'ended' }],
    more: 0,
    rollouts: [],
  });
  expect(rows).toEqual([
    { app: odd, manifest: hex(1), next: { manifest: hex(2), from: 5 }, node: null },
    { app: 'left', manifest: null, next: null, node: { state: 'ended', serving: null, trouble: null } },
  ]);
});
