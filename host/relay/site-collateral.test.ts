import { beforeEach, expect, test } from 'vitest';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { SiteCollateral } from './site-collateral.ts';

const kind = { tee: 'tdx', fmspc: '53494d000000', ca: 'platform' } as const;

let clock: number;
let brought: unknown[];
let said: string[];
let found: () => Promise<Collateral | undefined>;
let courier: SiteCollateral;
beforeEach(() => {
  clock = 0;
  brought = [];
  said = [];
  found = async () => PUBLISHED_SIMULATED_COLLATERAL;
  const log = (level: string) => (_: object, msg: string) => void said.push(`${level} ${msg}`);
  courier = new SiteCollateral({
    node: {
      platformKind: async () => kind,
      giveCollateral: async (collateral) => void brought.push(collateral),
    },
    collateral: { forKind: async (asked) => (asked === kind ? found() : undefined) },
    log: { info: log('info'), warn: log('warn') },
    monotonic: () => clock,
  });
});

test('a node that has joined is brought it at once, and again every ten minutes', async () => {
  await courier.bring(true);
  expect(brought).toEqual([PUBLISHED_SIMULATED_COLLATERAL]);
  clock = 599_999;
  await courier.bring(false);
  expect(brought).toHaveLength(1);
  clock = 600_000;
  await courier.bring(false);
  expect(brought).toHaveLength(2);
  expect(said).toHaveLength(1);
});

test('a node that started anew has lost it', async () => {
  await courier.bring(true);
  clock = 1_000;
  await courier.bring(true);
  expect(brought).toHaveLength(2);
});

test('without a source, or with one that fails, it is said once, and tried again', async () => {
  found = async () => undefined;
  await courier.bring(true);
  clock = 600_000;
  await courier.bring(false);
  found = async () => {
    throw new DstackError('PCS_UNREACHABLE', 'nobody answers');
  };
  clock = 1_200_000;
  await courier.bring(false);
  clock += 59_999;
  await courier.bring(false);
  clock += 1;
  await courier.bring(false);
  expect(brought).toEqual([]);
  expect(said.map((line) => line.slice(0, 40))).toEqual([
    'warn no source has collateral of tdx 534',
    'warn the node has no collateral for its ',
  ]);
  found = async () => PUBLISHED_SIMULATED_COLLATERAL;
  clock += 60_000;
  await courier.bring(false);
  expect(brought).toHaveLength(1);
});
