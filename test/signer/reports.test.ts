/**
 * What was reported against other remote signers, as inputs of ours: docs/signer.md has them with their addresses. Those that tests of the
 * part itself had before are not here.
 */
import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { ChainSigner } from '../../guest/signer/chain-signer.ts';
import { Dialler } from '../../guest/signer/dialler.ts';
import { Metrics } from '../../guest/signer/metrics.ts';
import type { Records, Stored } from '../../guest/signer/records.ts';
import type { ProtocolVersion } from '../../lib/cometbft/consensus.ts';
import { ed25519Key, verifyEd25519 } from '../../lib/cometbft/ed25519.ts';
import { stateOf } from '../../lib/cometbft/key-files.ts';
import { encodeState, NOTHING_SIGNED, type SignState } from '../../lib/cometbft/sign-state.ts';
import { canonicalProposal, delimit, encode, type Plain } from './support/definition.ts';
import { TestNode } from './support/node.ts';
import { quiet } from './support/signer.ts';

const CHAIN = 'reports-1';
const key = ed25519Key(new Uint8Array(32).fill(3));
const timestamp = { seconds: 1_800_000_000n, nanos: 5 };
const hash = new Uint8Array(32).fill(1);
const block = { hash, parts: { total: 1, hash } };
let node: TestNode;
let dialler: Dialler;
afterEach(async () => {
  await dialler?.stop();
  await node?.close();
});

/** A signer that is connected to a node, with a record in memory. @param within the time for an answer, milliseconds */
async function connected(
  protocol: ProtocolVersion,
  { state = NOTHING_SIGNED, within = 60_000 }: { state?: SignState; within?: number } = {},
) {
  const store = { stored: { value: encodeState(state), revision: 1n } as Stored, isFrozen: false };
  const answered = async (signal: AbortSignal | undefined) => {
    if (!store.isFrozen) return;
    await new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  const records: Records = {
    async read(_, signal) {
      await answered(signal);
      return store.stored;
    },
    async swap(_, before, value, signal) {
      await answered(signal);
      if (before?.value !== store.stored.value) return { written: false, current: store.stored };
      store.stored = { value, revision: store.stored.revision + 1n };
      return { written: true, revision: store.stored.revision };
    },
  };
  const around = { records, metrics: new Metrics(), log: quiet, gate: () => {} };
  const signer = new ChainSigner({ id: CHAIN, protocol, signsBytes: false, key }, around, within);
  node = await TestNode.listen();
  dialler = new Dialler({
    address: { kind: 'tcp', text: node.address, host: '127.0.0.1', port: node.port },
    ...{ signer, identity: ed25519Key(randomBytes(32)), log: quiet, elected: () => true },
  });
  dialler.start();
  await node.accept();
  return store;
}

const proposalAt = (height: number) => ({
  type: 32,
  height: BigInt(height),
  round: 0,
  pol: -1,
  block,
  timestamp,
});
const prevoteAt = (height: number) => ({
  ...{ type: 1, height: BigInt(height), round: 0, block, timestamp },
  ...{ address: new Uint8Array(20), index: 0 },
});
type Answer = { error?: { description: string }; vote?: Plain; proposal?: Plain };
const askVote = async (height: number) =>
  (await node.ask({ vote: { vote: prevoteAt(height), chain: CHAIN } })).vote as Answer;
const askProposal = async (height: number) =>
  (await node.ask({ proposal: { proposal: proposalAt(height), chain: CHAIN } })).proposal as Answer;

test('the first proposal of a chain, at height 1, is signed by a key that never signed', async () => {
  await connected('v0.34');
  const { proposal, error } = await askProposal(1);
  expect(error).toBeUndefined();
  const message = canonicalProposal(CHAIN, proposalAt(1));
  expect(verifyEd25519(key.publicKey, message, proposal!.signature as Uint8Array)).toBe(true);
});

test('by the state file that a tmkms makes where there is none, round 0 of height 1 counts as signed, and no later round', async () => {
  await connected('v0.34', { state: stateOf('{"height":"1","round":"0","step":0,"block_id":null}') });
  expect((await askProposal(1)).error?.description).toContain('SIGN_REGRESSION');
  const next = { ...proposalAt(1), round: 1 };
  const answer = (await node.ask({ proposal: { proposal: next, chain: CHAIN } })).proposal as Answer;
  expect(answer.error).toBeUndefined();
});

test('the answer to a request that took too long is its own, and the next request gets none but its own', async () => {
  const store = await connected('v0.38', { within: 200 });
  expect((await askVote(1)).vote).toBeDefined();
  store.isFrozen = true;
  expect((await askVote(2)).error?.description).toMatch(/^STORE_UNAVAILABLE/);
  expect(await node.ask({ ping: {} })).toHaveProperty('ping');
  store.isFrozen = false;
  expect((await askVote(2)).vote).toMatchObject({ height: 2n });
  // Both at once: in their order.
  node.write(delimit(encode('Request', { ping: {} })));
  node.write(delimit(encode('Request', { proposal: { proposal: proposalAt(3), chain: CHAIN } })));
  expect(await node.read()).toHaveProperty('ping');
  expect((await node.read()).proposal).toMatchObject({ proposal: { height: 3n } });
  expect(dialler.status()).toMatchObject({ state: 'serving', asked: { vote: 3, ping: 2, proposal: 1 } });
});

/** One field of wire type 2. */
const field = (number: number, bytes: Uint8Array): Uint8Array =>
  Buffer.concat([Uint8Array.of(number * 8 + 2), delimit(bytes)]);

test("a fork's proposal over six frames, with fields that the protocol has not, is answered with that, and the next one is signed", async () => {
  await connected('v0.34');
  // Of Sei: a hash of each transaction, and a header.
  const hashes = Array.from({ length: 150 }, () => field(8, field(1, randomBytes(32))));
  const proposal = Buffer.concat([encode('Proposal', proposalAt(7)), ...hashes, field(10, randomBytes(300))]);
  const request = field(5, Buffer.concat([field(1, proposal), field(2, Buffer.from(CHAIN))]));
  expect(request.length).toBeGreaterThan(5 * 1024);
  node.write(delimit(request));
  const { error } = (await node.read()).proposal as Answer;
  expect(error?.description).toMatch(/^COMETBFT_/);
  expect((await askProposal(7)).proposal).toMatchObject({ height: 7n });
  expect(dialler.status()).toMatchObject({ state: 'serving', asked: { proposal: 2 } });
});

test('a node of 1.x at a signer for 0.38, as after a chain was upgraded: the vote says what to look at', async () => {
  await connected('v0.38');
  // `skip_extension_signing`, which 0.38 does not have.
  const request = { vote: { vote: prevoteAt(5), chain: CHAIN, skip: true } };
  const { error } = (await node.ask(request)).vote as Answer;
  expect(error?.description).toMatch(/^COMETBFT_FIELD_UNKNOWN/);
  // And a public key that such a node does not understand: it looks in other fields.
  const told = (await node.ask({ pubKey: { chain: CHAIN } })).pubKey as Plain;
  expect(told).toMatchObject({ key: { ed25519: key.publicKey }, type: '' });
});
