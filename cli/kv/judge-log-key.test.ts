/**
 * What is refused even though the network's own key signed it, over quotes of the simulated platform and a contract that the test plays.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { simulatedCollateral, simulatedTcbInfo } from '../../lib/attestation/simulated/collateral.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { origin, secret, signer } from '../../lib/ledger/log.fixture.ts';
import { sha256, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import type { LedgerEvidence } from '../../lib/protocol/ledger-evidence.ts';
import { appReportData } from '../../lib/protocol/report-data.ts';
import { forgeLogKey, type LogKeyLies, logNetwork, otherWord } from '../../test/support/forge-log-key.ts';
import { judgeLogKey, type LogKeyQuestion } from './judge-log-key.ts';

let world: {
  epoch: number;
  networkKey: Address;
  allowed: { measurement: boolean; config: boolean; platform: boolean };
};
beforeEach(() => {
  world = {
    epoch: 1,
    networkKey: networkKey(secret, 1).address,
    allowed: { measurement: true, config: true, platform: true },
  };
});
const reader = {
  chain: {
    head: async () => ({
      number: 103,
      hash: to0x(sha256(utf8('block'))),
      timestamp: Math.floor(Date.now() / 1000),
    }),
  },
  network: async () => ({ epoch: world.epoch, networkKey: world.networkKey }),
  tcbPolicy: async () => ({ statuses: ['UpToDate'], minimumTcbEvaluationDataNumber: 0 }),
  fmspcDenied: async () => false,
  isAllowed: async () => ({
    measurementAllowed: world.allowed.measurement,
    configAllowed: world.allowed.config,
    platformAllowed: world.allowed.platform,
  }),
} as unknown as NetworkReader;

const judge = (evidence: LedgerEvidence, changes: Partial<LogKeyQuestion> = {}) =>
  judgeLogKey({
    evidence,
    network: logNetwork,
    reader,
    flavour: 'sim',
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
    ...changes,
  });
/** The code with which it is refused. */
const judged = (evidence: LedgerEvidence, changes?: Partial<LogKeyQuestion>): Promise<string> =>
  judge(evidence, changes).then(() => 'accepted', codeOf);

test('the key is that of the log, on a machine that is named', async () => {
  const { key, status, measurement } = await judge(forgeLogKey());
  expect(key).toEqual({ name: origin, publicKey: signer.publicKey });
  expect(status).toBe('UpToDate');
  expect(measurement).toMatch(/^[0-9a-f]{64}$/);
});

test.each<[string, LogKeyLies, string]>([
  ['no quote', { unquoted: true }, 'LEDGER_UNQUOTED'],
  ['another key than the quoted one', { signed: { publicKey: otherWord(32) } }, 'REPORT_DATA_MISMATCH'],
  ['another log than the quoted one', { signed: { log: otherWord(16) } }, 'REPORT_DATA_MISMATCH'],
  [
    'a quote that was made for an app',
    { reportData: appReportData('greeting', new Uint8Array(32), sha256(utf8('x'))) },
    'REPORT_DATA_MISMATCH',
  ],
  ['a quote of a machine that has not joined', { joined: false }, 'RTMR3_MISMATCH'],
  ['another configuration than the machine has', { config: sha256(utf8('another')) }, 'RTMR3_MISMATCH'],
  ['a debug TD', { debug: true }, 'TD_DEBUG'],
  ['another chain', { signed: { chainId: 8 } }, 'LEDGER_OTHER_NETWORK'],
  [
    'another contract',
    { signed: { contract: parseAddress(`0x${'11'.repeat(20)}`) } },
    'LEDGER_OTHER_NETWORK',
  ],
  ['another epoch', { epoch: 2 }, 'LEDGER_EPOCH'],
  ['the key of another epoch', { epoch: 2, signed: { epoch: 1 } }, 'LEDGER_KEY_UNSIGNED'],
])('%s', async (_, lies, code) => {
  expect(await judged(forgeLogKey(lies))).toBe(code);
});

describe('the contract decides', () => {
  test.each(['measurement', 'config', 'platform'] as const)('which %s is allowed', async (what) => {
    world.allowed[what] = false;
    expect(await judged(forgeLogKey())).toBe(`${what.toUpperCase()}_NOT_ALLOWED`);
  });

  test("which key is the network's", async () => {
    world.networkKey = networkKey(secret, 2).address;
    expect(await judged(forgeLogKey())).toBe('LEDGER_KEY_UNSIGNED');
    world.epoch = 2;
    expect(await judged(forgeLogKey())).toBe('LEDGER_EPOCH');
  });
});

test('by collateral of now, under the root of the flavour that the asker names', async () => {
  const expired = simulatedCollateral({
    tcbInfo: { ...simulatedTcbInfo(), nextUpdate: '2021-01-01T00:00:00Z' },
  });
  expect(await judged(forgeLogKey(), { collateral: undefined })).toBe('COLLATERAL_MISSING');
  expect(await judged(forgeLogKey(), { collateral: expired })).toBe('TCB_INFO_EXPIRED');
  expect(await judged(forgeLogKey(), { flavour: 'production' })).toBe('PCK_CHAIN_ROOT');
});
