/** What the contract says of the TCB, as the verifier's policy; on a real chain, and from one that lies. */
import { AbiCoder } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestNetwork, type TestNetwork } from '../../test/support/network.ts';
import { parsePolicy } from '../attestation/policy.ts';
import { fromHex } from '../protocol/encoding.ts';
import {
  encodeSetAcceptedTcbStatuses,
  encodeSetDeniedFmspc,
  encodeSetMinimumTcbEvaluationNumber,
  encodeSetTcbOutOfDateGrace,
} from '../protocol/network-contract.ts';
import { LONGEST_GRACE_SECONDS, statusMask } from '../protocol/tcb-policy.ts';
import { type ChainClient, chainClient, type Head } from './chain-client.ts';
import { networkReader } from './network-reader.ts';

const FMSPC = '00906ed50000';
let network: TestNetwork;
let chain: ChainClient;
beforeAll(async () => {
  network = await startTestNetwork();
  chain = chainClient({
    config: {
      chainId: network.domain.chainId,
      endpoints: [network.anvil.url],
      quorum: 1,
      confirmation: { depth: 0 },
    },
  });
});
afterAll(() => network.stop());

test('the policy of a new network: up to date, and no grace at all', async () => {
  const policy = await networkReader(chain, network.contract).tcbPolicy();
  expect(policy).toEqual({ statuses: ['UpToDate'], minimumTcbEvaluationDataNumber: 0 });
  // A period of zero days would accept a level that is dated later than now.
  expect(policy).not.toHaveProperty('gracePeriodDays');
});

test('is read at the block that is asked for, as a policy that the verifier takes', async () => {
  const reader = networkReader(chain, network.contract);
  const before = await chain.head();
  const mask = statusMask(['UpToDate', 'SWHardeningNeeded', 'TDRelaunchAdvised']);
  await network.send(encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 17 }));
  await network.send(encodeSetAcceptedTcbStatuses({ statuses: mask }));
  await network.send(encodeSetTcbOutOfDateGrace({ gracePeriod: 36 * 3_600 }));
  await network.send(encodeSetDeniedFmspc({ fmspc: `0x${FMSPC}`, denied: true }));
  const after = await chain.head();

  const policy = await reader.tcbPolicy(after);
  expect(policy).toEqual({
    statuses: ['UpToDate', 'SWHardeningNeeded', 'TDRelaunchAdvised'],
    minimumTcbEvaluationDataNumber: 17,
    gracePeriodDays: 1.5,
  });
  expect(parsePolicy(JSON.stringify(policy))).toEqual(policy);
  expect(await reader.fmspcDenied(fromHex(FMSPC), after)).toBe(true);
  expect(await reader.fmspcDenied(fromHex('00906ed50001'), after)).toBe(false);

  expect(await reader.tcbPolicy(before)).toMatchObject({ minimumTcbEvaluationDataNumber: 0 });
  expect(await reader.fmspcDenied(fromHex(FMSPC), before)).toBe(false);
});

test.each([
  ['Revoked among the statuses', [0, 0x41, 0]],
  ['no status', [0, 0, 0]],
  ['an unknown status', [0, 0x401, 0]],
  ['a grace period longer than the contract takes', [0, 1, LONGEST_GRACE_SECONDS + 1]],
])('%s is an error, never a policy', async (_, words) => {
  const answer = AbiCoder.defaultAbiCoder().encode(['uint32', 'uint16', 'uint32'], words);
  const reader = networkReader(answering(answer), network.contract);
  await expect(reader.tcbPolicy()).rejects.toMatchObject({ code: 'TCB_POLICY_INVALID' });
});

test.each([
  ['a word short', `0x${'00'.repeat(64)}`],
  ['nothing, as from an address without code', '0x'],
  ['numbers that do not fit', `0x${'ff'.repeat(96)}`],
])('%s is an error, never a policy', async (_, answer) => {
  const reader = networkReader(answering(answer), network.contract);
  await expect(reader.tcbPolicy()).rejects.toMatchObject({ code: 'CONTRACT_DATA_INVALID' });
  await expect(reader.fmspcDenied(fromHex(FMSPC))).rejects.toMatchObject({ code: 'CONTRACT_DATA_INVALID' });
});

/** A quorum that agrees on a lie. */
function answering(answer: string): ChainClient {
  return { ...chain, call: async (_contract: string, _data: string, _at: Head) => answer };
}
