/** The TCB policy: what takes effect at once, what waits, and what is refused. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as contract from '../lib/protocol/network-contract.ts';
import { LONGEST_GRACE_SECONDS, statusMask } from '../lib/protocol/tcb-policy.ts';
import { TestNetwork } from './fixture.ts';
import { Chain, type Receipt, refusalOf } from './local-chain.ts';
import { type Anvil, startAnvil } from './local-node.ts';

const DAY = 86_400;
const DELAY = 1_000;
const FOREVER = 2n ** 64n - 1n;
const FMSPC = '0x00906ed50000';
const UP_TO_DATE = statusMask(['UpToDate']);
const HARDENING = statusMask(['UpToDate', 'SWHardeningNeeded']);
const CONFIGURATION = statusMask(['UpToDate', 'ConfigurationNeeded']);

let anvil: Anvil;
let chain: Chain;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
});
afterAll(() => anvil.stop());

const minimum = (tcbEvaluationDataNumber: number): string =>
  contract.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber });
const statuses = (mask: number): string => contract.encodeSetAcceptedTcbStatuses({ statuses: mask });
const grace = (gracePeriod: number): string => contract.encodeSetTcbOutOfDateGrace({ gracePeriod });
const deny = (denied: boolean, fmspc = FMSPC): string => contract.encodeSetDeniedFmspc({ fmspc, denied });

const policy = (network: TestNetwork) => network.read(contract.encodeTcbPolicy(), contract.decodeTcbPolicy);
const next = (network: TestNetwork) =>
  network.read(contract.encodeNextTcbPolicy(), contract.decodeNextTcbPolicy);
const denied = (network: TestNetwork, fmspc = FMSPC) =>
  network.read(contract.encodeFmspcDenied({ fmspc }), contract.decodeFmspcDenied);
const listed = (network: TestNetwork) =>
  network.read(contract.encodeDeniedFmspcs(), contract.decodeDeniedFmspcs);

/** Sends as the owner; the event must be this one, in force at once or after the delay. */
async function sets(
  network: TestNetwork,
  data: string,
  event: { readonly name: string } & Record<string, unknown>,
  waits: boolean,
): Promise<bigint> {
  const { events }: Receipt = await network.asOwner(data);
  const from = (await chain.head()).time + BigInt(waits ? DELAY : 0);
  expect(events).toEqual([{ ...event, from }]);
  return from;
}

/** What the policy shows in a block of exactly that time. */
async function policyAt(network: TestNetwork, time: bigint): Promise<contract.TcbPolicyResult> {
  await chain.nextBlockAt(time);
  await chain.mine(1);
  return policy(network);
}

const network = (delay = DELAY) => TestNetwork.bootstrapped(chain, { delay });

describe('a new network', () => {
  test('accepts what is up to date, asks for no evaluation, gives no grace, denies nothing', async () => {
    const fresh = await TestNetwork.deploy(chain, { delay: DELAY });
    expect(await policy(fresh)).toEqual({
      minimumTcbEvaluationDataNumber: 0,
      statuses: UP_TO_DATE,
      gracePeriod: 0,
    });
    expect(await next(fresh)).toMatchObject({ minimumFrom: 0n, statuses: UP_TO_DATE, gracePeriodFrom: 0n });
    expect(await denied(fresh)).toBe(false);
    expect(await listed(fresh)).toEqual([]);
  });

  test('is set at once, either way, until it is bootstrapped', async () => {
    const fresh = await TestNetwork.deploy(chain, { delay: DELAY });
    for (const data of [minimum(17), minimum(16), statuses(HARDENING), grace(DAY)]) await fresh.asOwner(data);
    expect(await policy(fresh)).toEqual({
      minimumTcbEvaluationDataNumber: 16,
      statuses: HARDENING,
      gracePeriod: DAY,
    });
    await fresh.asOwner(deny(true));
    expect(await denied(fresh)).toBe(true);
    await fresh.asOwner(deny(false));
    expect(await denied(fresh)).toBe(false);
  });
});

test('only the owner sets any of it', async () => {
  const it = await network();
  for (const data of [minimum(1), statuses(UP_TO_DATE), grace(0), deny(true), deny(false)]) {
    expect(await refusalOf(it.asStranger(data))).toMatchObject({ name: 'OwnableUnauthorizedAccount' });
  }
});

describe('the minimum', () => {
  const set = (tcbEvaluationDataNumber: number) => ({
    name: 'MinimumTcbEvaluationNumberSet',
    tcbEvaluationDataNumber,
  });
  const now = async (it: TestNetwork) => (await policy(it)).minimumTcbEvaluationDataNumber;

  test('rises at once; falls after the delay, to the second', async () => {
    const it = await network();
    await sets(it, minimum(17), set(17), false);
    expect(await now(it)).toBe(17);
    const from = await sets(it, minimum(16), set(16), true);
    expect(await next(it)).toMatchObject({ minimumTcbEvaluationDataNumber: 16, minimumFrom: from });
    expect(await policyAt(it, from - 1n)).toMatchObject({ minimumTcbEvaluationDataNumber: 17 });
    expect(await policyAt(it, from)).toMatchObject({ minimumTcbEvaluationDataNumber: 16 });
  });

  test('raising it, or setting the present one, cancels a lower one that is to come', async () => {
    for (const cancelling of [17, 18]) {
      const it = await network();
      await it.asOwner(minimum(17));
      await it.asOwner(minimum(3));
      await sets(it, minimum(cancelling), set(cancelling), false);
      await chain.pass(2 * DELAY);
      expect(await now(it)).toBe(cancelling);
    }
  });

  test('another lower one replaces it, and its time begins anew', async () => {
    const it = await network();
    await it.asOwner(minimum(17));
    await it.asOwner(minimum(3));
    await chain.pass(DELAY / 2);
    const from = await sets(it, minimum(10), set(10), true);
    expect(await policyAt(it, from - 1n)).toMatchObject({ minimumTcbEvaluationDataNumber: 17 });
    expect(await policyAt(it, from)).toMatchObject({ minimumTcbEvaluationDataNumber: 10 });
  });

  test('may be any 32 bits', async () => {
    const it = await network();
    await sets(it, minimum(2 ** 32 - 1), set(2 ** 32 - 1), false);
    expect(await now(it)).toBe(2 ** 32 - 1);
    const from = await sets(it, minimum(0), set(0), true);
    expect(await policyAt(it, from)).toMatchObject({ minimumTcbEvaluationDataNumber: 0 });
  });
});

describe('the statuses', () => {
  const set = (mask: number) => ({ name: 'AcceptedTcbStatusesSet', statuses: mask });

  test('more of them wait, fewer do not', async () => {
    const it = await network();
    const from = await sets(it, statuses(HARDENING), set(HARDENING), true);
    expect(await policyAt(it, from - 1n)).toMatchObject({ statuses: UP_TO_DATE });
    expect(await policyAt(it, from)).toMatchObject({ statuses: HARDENING });
    await sets(it, statuses(UP_TO_DATE), set(UP_TO_DATE), false);
    expect(await policy(it)).toMatchObject({ statuses: UP_TO_DATE });
  });

  test('one in exchange for another: the old one is gone at once, the new one waits', async () => {
    const it = await network();
    await it.asOwner(statuses(HARDENING));
    await chain.pass(DELAY);
    const from = await sets(it, statuses(CONFIGURATION), set(CONFIGURATION), true);
    expect(await policy(it)).toMatchObject({ statuses: UP_TO_DATE });
    expect(await policyAt(it, from - 1n)).toMatchObject({ statuses: UP_TO_DATE });
    expect(await policyAt(it, from)).toMatchObject({ statuses: CONFIGURATION });
  });

  test('what was taken away comes back only after the delay, even while it was to stay', async () => {
    const it = await network();
    await it.asOwner(statuses(HARDENING));
    await chain.pass(DELAY);
    await it.asOwner(statuses(UP_TO_DATE));
    const from = await sets(it, statuses(HARDENING), set(HARDENING), true);
    expect(await policyAt(it, from - 1n)).toMatchObject({ statuses: UP_TO_DATE });
    expect(await policyAt(it, from)).toMatchObject({ statuses: HARDENING });
  });

  test('setting fewer cancels those to come', async () => {
    const it = await network();
    await it.asOwner(statuses(HARDENING));
    await it.asOwner(statuses(UP_TO_DATE));
    await chain.pass(2 * DELAY);
    expect(await policy(it)).toMatchObject({ statuses: UP_TO_DATE });
  });

  test.each([
    ['none', 0],
    ['without UpToDate', 0x1be],
    ['with Revoked', 0x41],
    ['all, Revoked among them', 0x1ff],
    ['the first bit that stands for nothing', 0x201],
    ['every bit', 0xffff],
  ])('%s: refused', async (_, mask) => {
    const it = await network();
    expect(await refusalOf(it.asOwner(statuses(mask)))).toEqual({
      name: 'InvalidTcbStatuses',
      statuses: mask,
    });
    expect(await policy(it)).toMatchObject({ statuses: UP_TO_DATE });
  });

  test('all but Revoked may be accepted', async () => {
    const it = await network(0);
    await it.asOwner(statuses(0x1bf));
    expect(await policy(it)).toMatchObject({ statuses: 0x1bf });
  });
});

describe('the grace period', () => {
  const set = (gracePeriod: number) => ({ name: 'TcbOutOfDateGraceSet', gracePeriod });

  test('longer after the delay, to the second; shorter at once, which cancels a longer one', async () => {
    const it = await network();
    const from = await sets(it, grace(30 * DAY), set(30 * DAY), true);
    expect(await policyAt(it, from - 1n)).toMatchObject({ gracePeriod: 0 });
    expect(await policyAt(it, from)).toMatchObject({ gracePeriod: 30 * DAY });
    await it.asOwner(grace(90 * DAY));
    await sets(it, grace(DAY), set(DAY), false);
    expect(await policy(it)).toMatchObject({ gracePeriod: DAY });
    await chain.pass(2 * DELAY);
    expect(await policy(it)).toMatchObject({ gracePeriod: DAY });
  });

  test('ten years at most', async () => {
    const it = await network();
    expect(await refusalOf(it.asOwner(grace(LONGEST_GRACE_SECONDS + 1)))).toEqual({
      name: 'GracePeriodTooLong',
      gracePeriod: LONGEST_GRACE_SECONDS + 1,
      longest: LONGEST_GRACE_SECONDS,
    });
    await sets(it, grace(LONGEST_GRACE_SECONDS), set(LONGEST_GRACE_SECONDS), true);
  });
});

describe('FMSPCs', () => {
  test('are denied at once, and let in again after the delay, to the second', async () => {
    const it = await network();
    expect((await it.asOwner(deny(true))).events).toEqual([{ name: 'FmspcDenied', fmspc: FMSPC }]);
    expect(await denied(it)).toBe(true);
    expect(await listed(it)).toEqual([{ fmspc: FMSPC, deniedUntil: FOREVER }]);
    const from = await sets(it, deny(false), { name: 'FmspcAllowed', fmspc: FMSPC }, true);
    expect(await listed(it)).toEqual([{ fmspc: FMSPC, deniedUntil: from }]);
    await chain.nextBlockAt(from - 1n);
    await chain.mine(1);
    expect(await denied(it)).toBe(true);
    await chain.nextBlockAt(from);
    await chain.mine(1);
    expect(await denied(it)).toBe(false);
  });

  test('denied again before that, it stays out', async () => {
    const it = await network();
    for (const data of [deny(true), deny(false), deny(true)]) await it.asOwner(data);
    await chain.pass(2 * DELAY);
    expect(await denied(it)).toBe(true);
  });

  test('each change is refused when it changes nothing', async () => {
    const it = await network();
    expect(await refusalOf(it.asOwner(deny(false)))).toEqual({
      name: 'FmspcNotDenied',
      fmspc: FMSPC,
      until: 0n,
    });
    await it.asOwner(deny(true));
    expect(await refusalOf(it.asOwner(deny(true)))).toEqual({ name: 'FmspcAlreadyDenied', fmspc: FMSPC });
    await it.asOwner(deny(false));
    const until = (await chain.head()).time + BigInt(DELAY);
    expect(await refusalOf(it.asOwner(deny(false)))).toEqual({
      name: 'FmspcNotDenied',
      fmspc: FMSPC,
      until,
    });
  });

  test('the list names each once, in order; zero and all ones are FMSPCs like any other', async () => {
    const it = await network(0);
    const [zero, ones] = [`0x${'00'.repeat(6)}`, `0x${'ff'.repeat(6)}`];
    for (const data of [deny(true, ones), deny(true, zero), deny(false, ones), deny(true, ones)]) {
      await it.asOwner(data);
    }
    expect((await listed(it)).map(({ fmspc }) => fmspc)).toEqual([ones, zero]);
    expect([await denied(it, ones), await denied(it, zero), await denied(it)]).toEqual([true, true, false]);
  });
});

test('no part disturbs another, and each keeps its time when the delay changes', async () => {
  const it = await network();
  await it.asOwner(minimum(17));
  await it.asOwner(statuses(HARDENING));
  await chain.pass(DELAY / 2);
  for (const data of [minimum(18), grace(DAY), deny(true)]) await it.asOwner(data);
  await it.asOwner(contract.encodeSetDelay({ delay: 10 * DELAY }));
  await chain.pass(DELAY / 2);
  expect(await policy(it)).toEqual({
    minimumTcbEvaluationDataNumber: 18,
    statuses: HARDENING,
    gracePeriod: 0,
  });
  await chain.pass(DELAY / 2);
  expect(await policy(it)).toMatchObject({ gracePeriod: DAY });
});

test('onboard does not look at it: what the node signed is posted, whatever the policy is by then', async () => {
  const it = await network();
  const request = await it.registered();
  for (const data of [minimum(2 ** 32 - 1), deny(true)]) await it.asOwner(data);
  const { events } = await it.asStranger(contract.encodeOnboard(it.onboardArgs(request)));
  expect(events).toMatchObject([{ name: 'Onboarded', requestHash: request.hash }]);
});
