import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChainSigner, recordKey } from '../../guest/signer/chain-signer.ts';
import { networkSeed } from '../../guest/signer/keys.ts';
import { Metrics } from '../../guest/signer/metrics.ts';
import { EtcdRecords, type Records } from '../../guest/signer/records.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { decodeState } from '../../lib/cometbft/sign-state.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { TestEtcd } from './support/etcd.ts';
import { ask, outcome, precommit } from './support/racing.ts';
import { freshRecord, quiet, startSigner, testSecret } from './support/signer.ts';

const CHAIN = 'cluster-1';
const secret = testSecret();
const key = ed25519Key(networkSeed(secret, CHAIN));
let etcd: TestEtcd;
const clients: EtcdClient[] = [];

beforeAll(async () => {
  etcd = await TestEtcd.start(3);
  await freshRecord(etcd.endpoints, secret, CHAIN);
});
afterAll(async () => {
  for (const client of clients) client.close();
  await etcd?.stop();
});

/** The store by some of its members. */
function recordsOf(...members: number[]): EtcdRecords {
  const client = new EtcdClient({ endpoints: members.map((at) => etcd.endpoints[at]!) });
  clients.push(client);
  return new EtcdRecords(client);
}

/** @param within which it answers, milliseconds: longer than a machine that has other work takes to reach a quorum */
function signerOn(records: Records, gate = () => {}, within = 60_000): ChainSigner {
  const options = { id: CHAIN, protocol: 'v0.38' as const, signsBytes: false, key };
  return new ChainSigner(options, { records, metrics: new Metrics(), log: quiet, gate }, within);
}

test('signers at different members, asked for different blocks of one step at once: one is signed, the others conflict', async () => {
  const signers = [0, 1, 2].map((at) => signerOn(recordsOf(at)));
  for (let height = 1; height <= 25; height += 1) {
    const outcomes = (
      await Promise.all(signers.map((signer, n) => ask(signer, precommit(height, n + 1))))
    ).map(outcome);
    expect(
      outcomes.filter((one) => one.startsWith('signed ')),
      String(outcomes),
    ).toHaveLength(1);
    expect(outcomes.filter((one) => one === 'SIGN_CONFLICT')).toHaveLength(2);
  }
});

test('the same block asked of all at once with other times gets one signature', async () => {
  const signers = [0, 1, 2].map((at) => signerOn(recordsOf(at)));
  for (let height = 30; height < 40; height += 1) {
    const outcomes = await Promise.all(
      signers.map((signer, n) => ask(signer, precommit(height, 1, BigInt(n)))),
    );
    expect(new Set(outcomes.map(outcome)).size).toBe(1);
    expect(outcome(outcomes[0]!)).toMatch(/^signed/);
  }
});

test('a signer that begins with an old state of its own is asked for a past height: regression', async () => {
  await ask(signerOn(recordsOf(0)), precommit(50, 1));
  // Whatever a machine was put back to, a signer has no state but the record.
  const restored = signerOn(recordsOf(1));
  expect(outcome(await ask(restored, precommit(49, 2)))).toBe('SIGN_REGRESSION');
  expect(outcome(await ask(restored, precommit(50, 2)))).toBe('SIGN_CONFLICT');
});

test('one that is frozen between its check and its signature signs nothing else than what it wrote', async () => {
  const records = recordsOf(0);
  let thaw = (): void => {};
  const frozen = new Promise<void>((resolve) => {
    thaw = resolve;
  });
  const after = signerOn({
    read: (name, signal) => records.read(name, signal),
    swap: async (...call) => {
      const swapped = await records.swap(...call);
      await frozen;
      return swapped;
    },
  });
  const slow = ask(after, precommit(60, 1));
  const other = signerOn(recordsOf(1));
  await expect
    .poll(async () => decodeState((await records.read(recordKey(CHAIN, key.publicKey)))!.value).height)
    .toBe(60n);
  expect(outcome(await ask(other, precommit(60, 2)))).toBe('SIGN_CONFLICT');
  expect(outcome(await ask(other, precommit(61, 2)))).toMatch(/^signed/);
  thaw();
  expect(outcome(await slow)).toMatch(/^signed/);
});

test('one that is frozen between its look and its swap finds what the other one wrote', async () => {
  const records = recordsOf(0);
  let thaw = (): void => {};
  const frozen = new Promise<void>((resolve) => {
    thaw = resolve;
  });
  let looked = (): void => {};
  const hasLooked = new Promise<void>((resolve) => {
    looked = resolve;
  });
  const before = signerOn({
    read: (name, signal) => records.read(name, signal),
    swap: async (...call) => {
      looked();
      await frozen;
      return records.swap(...call);
    },
  });
  const slow = ask(before, precommit(70, 1));
  await hasLooked;
  expect(outcome(await ask(signerOn(recordsOf(1)), precommit(70, 2)))).toMatch(/^signed/);
  thaw();
  expect(outcome(await slow)).toBe('SIGN_CONFLICT');
});

test('with one member frozen the others serve; without a quorum nothing is signed, and after it everything is', async () => {
  const signer = signerOn(recordsOf(0, 1, 2), undefined, 3_000);
  await etcd.freeze(0);
  expect(outcome(await ask(signer, precommit(80, 1)))).toMatch(/^signed|^STORE_UNAVAILABLE$/);
  await expect.poll(async () => outcome(await ask(signer, precommit(81, 1)))).toMatch(/^signed/);
  await etcd.freeze(1);
  const begun = performance.now();
  expect(outcome(await ask(signer, precommit(82, 1)))).toBe('STORE_UNAVAILABLE');
  expect(performance.now() - begun).toBeLessThan(45_000);
  expect(outcome(await ask(signer, precommit(82, 1)))).toBe('STORE_UNAVAILABLE');
  // Nor is what was signed before signed again.
  expect(outcome(await ask(signer, precommit(81, 1)))).toBe('STORE_UNAVAILABLE');
  etcd.thaw(0);
  etcd.thaw(1);
  await expect.poll(async () => outcome(await ask(signer, precommit(83, 1)))).toMatch(/^signed/);
}, 300_000);

test('two signers race while members come and go: never two signatures of one step', async () => {
  const signers = [signerOn(recordsOf(0, 1)), signerOn(recordsOf(2, 1))];
  const signatures = new Map<number, Set<string>>();
  const reasons = new Map<string, number>();
  for (let height = 100; height < 130; height += 1) {
    const member = height % 3;
    if (height % 5 === 0) await etcd.freeze(member);
    const outcomes = (
      await Promise.all(signers.map((signer, n) => ask(signer, precommit(height, n + 1))))
    ).map(outcome);
    if (height % 5 === 0) etcd.thaw(member);
    for (const one of outcomes) {
      if (one.startsWith('signed')) signatures.set(height, (signatures.get(height) ?? new Set()).add(one));
      else reasons.set(one, (reasons.get(one) ?? 0) + 1);
    }
  }
  expect([...signatures.values()].every((set) => set.size === 1)).toBe(true);
  expect(signatures.size).toBeGreaterThan(20);
  expect(
    [...reasons.keys()].every((code) =>
      ['SIGN_CONFLICT', 'SIGN_REGRESSION', 'STORE_UNAVAILABLE'].includes(code),
    ),
  ).toBe(true);
  expect(reasons.get('SIGN_CONFLICT')).toBeGreaterThan(10);
}, 300_000);

test('a signer whose chain is stale signs nothing and says so', async () => {
  let stale = false;
  const signer = signerOn(recordsOf(0, 1, 2), () => {
    if (stale) throw new DstackError('CHAIN_STALE', 'the chain is stale');
  });
  stale = true;
  expect(outcome(await ask(signer, precommit(200, 1)))).toBe('CHAIN_STALE');
  stale = false;
  expect(outcome(await ask(signer, precommit(200, 2)))).toMatch(/^signed/);
});

test('several members protect from one disk put back; one signer dials, and another one when that is gone', async () => {
  const chains = [{ id: CHAIN, protocol: 'v0.38' as const, nodes: ['tcp://127.0.0.1:9'] }];
  const first = await startSigner(etcd.endpoints, secret, chains);
  await expect.poll(() => first.status().dials).toBe(true);
  expect(first.status().rollbackProtected).toBe(true);
  const second = await startSigner(etcd.endpoints, secret, chains, { machine: 'another one' });
  await expect.poll(() => second.status().connections[0]!.state).toBe('standby');
  await first.stop();
  await expect.poll(() => second.status().dials).toBe(true);
  await second.stop();
}, 300_000);
