/**
 * A bounded sample of the contract's fuzz (`node contracts/fuzz.ts` plays it for as long as one likes), and proof that
 * the fuzz can fail: it has to notice a contract that is broken, and cut the sequence that shows it to a few calls.
 */
import { expect, test } from 'vitest';
import { encodeOpenPlatforms } from '../lib/protocol/network-contract.ts';
import { networkRuntimeBytecode } from './bindings.ts';
import { fuzz } from './fuzz/campaign.ts';
import { FuzzChain } from './fuzz/chain.ts';
import { MUTANTS, mutantBytecode } from './fuzz/mutants.ts';
import { ENTRIES_SLOT, PUPPET, puppetCode } from './fuzz/puppet.ts';

/** Another one each day would be a flaky test; the long run draws its own. */
const SEED = 2_026;
const SAMPLE = 16;

test('random sequences: every call, event, refusal and view is the model’s, and no invariant breaks', async () => {
  const { figures, failure } = await fuzz({ seed: SEED, sequences: SAMPLE });
  expect(failure?.message).toBeUndefined();
  expect(figures.sequences).toBe(SAMPLE);
  // The sample has to get deep enough to mean something.
  expect(Object.keys(figures.accepted).length).toBeGreaterThanOrEqual(15);
  expect(Object.keys(figures.refused).length).toBeGreaterThanOrEqual(18);
  expect(figures.accepted.onboard).toBeGreaterThan(10);
  expect(figures.mostGas.register! + figures.mostGas.onboard!).toBeLessThan(110_000);
}, 120_000);

test('the same seed and number make the same sequence again', async () => {
  const once = await fuzz({ seed: SEED, start: 3, sequences: 1 });
  const again = await fuzz({ seed: SEED, start: 3, sequences: 1 });
  expect(again.figures).toEqual(once.figures);
  expect(once.figures.calls).toBeGreaterThan(1);
}, 60_000);

test('a contract whose rollouts do not wait is noticed, and shown by a few calls', async () => {
  const mutant = MUTANTS.find(({ name }) => name === 'a rollout is in force at once');
  const { failure } = await fuzz({
    seed: SEED,
    sequences: 60,
    blocks: 16,
    bytecode: mutantBytecode(mutant!),
  });
  expect(failure?.message).toMatch(/the contract shows .*RolledOut.*, the model .*RolledOut/);
  expect(failure!.sequence.steps.flatMap(({ calls }) => calls).length).toBeLessThanOrEqual(3);
}, 120_000);

test('code that cannot be deployed at all is an error of the fuzz, not a finding', async () => {
  const broken = fuzz({ seed: SEED, sequences: 1, bytecode: '0xfe' });
  await expect(broken).rejects.toMatchObject({ code: 'FUZZ_DEPLOY' });
});

test('the network calls nobody: its code has one call, static, to the precompile that recovers signers', () => {
  const code = Buffer.from(networkRuntimeBytecode.slice(2), 'hex');
  const found: { readonly op: number; readonly at: number }[] = [];
  for (let at = 0; at < code.length; at += code[at]! >= 0x60 && code[at]! <= 0x7f ? code[at]! - 0x5e : 1) {
    // CREATE, CALL, CALLCODE, DELEGATECALL, CREATE2, STATICCALL, SELFDESTRUCT
    if ([0xf0, 0xf1, 0xf2, 0xf4, 0xf5, 0xfa, 0xff].includes(code[at]!)) found.push({ op: code[at]!, at });
  }
  expect(found.map(({ op }) => op)).toEqual([0xfa]);
  // GAS before it, and 1 as the address below that: PUSH1 1, GAS, STATICCALL.
  const { at } = found[0]!;
  expect(code.subarray(at - 3, at).toString('hex')).toBe('60015a');
});

test('the contract that re-enters would be noticed: called by the network it counts, called by others it forwards', async () => {
  const chain = await FuzzChain.start({ traces: false });
  try {
    const network = `0x${'00'.repeat(18)}beef`;
    await chain.rpc('anvil_setCode', PUPPET, puppetCode(network));
    const entries = () => chain.rpc<string>('eth_getStorageAt', PUPPET, ENTRIES_SLOT, 'latest').then(BigInt);
    const [other] = await chain.accounts();
    const call = async (from: string): Promise<unknown> => {
      await chain.send({ from, to: PUPPET, data: '0x12345678', gas: 200_000 });
      const trace = ['debug_traceBlockByNumber', 'latest', { tracer: 'callTracer' }] as const;
      await chain.mine(chain.head.time + 1, []);
      const [answer] = await chain.batch([trace]);
      return answer;
    };
    const forwarded = { calls: [{ from: PUPPET, to: network, input: '0x12345678' }] };
    expect(await call(other!)).toMatchObject([{ result: forwarded }]);
    expect(await entries()).toBe(0n);
    const back = { calls: [{ from: PUPPET, to: network, input: encodeOpenPlatforms() }] };
    expect(await call(network)).toMatchObject([{ result: back }]);
    expect(await entries()).toBe(1n);
  } finally {
    await chain.stop();
  }
});
