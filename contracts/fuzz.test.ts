/**
 * A bounded sample of the contract's fuzz (`node contracts/fuzz.ts` plays it for as long as one likes), and proof that
 * the fuzz can fail: it has to notice a contract that is broken, and cut the sequence that shows it to a few calls.
 */
import { expect, test } from 'vitest';
import { networkRuntimeBytecode } from './bindings.ts';
import { compileTraceable, networkSource } from './compile.ts';
import { fuzz } from './fuzz/campaign.ts';

/** Fixed, because a new one each day would make a flaky test. The long run draws its own. */
const SEED = 2_026;
const SAMPLE = 16;

test("random sequences: every call, event, refusal and view is the model's, and no invariant breaks", async () => {
  const { figures, failure } = await fuzz({ seed: SEED, sequences: SAMPLE });
  expect(failure?.message).toBeUndefined();
  expect(figures.sequences).toBe(SAMPLE);
  // The sample has to reach deep enough states to mean something.
  expect(Object.keys(figures.accepted).length).toBeGreaterThanOrEqual(15);
  expect(Object.keys(figures.refused).length).toBeGreaterThanOrEqual(18);
  expect(figures.accepted.onboard).toBeGreaterThan(10);
  expect(figures.mostGas.register! + figures.mostGas.onboard!).toBeLessThan(110_000);
}, 300_000);

test('the same seed and number make the same sequence again', async () => {
  const once = await fuzz({ seed: SEED, start: 3, sequences: 1 });
  const again = await fuzz({ seed: SEED, start: 3, sequences: 1 });
  expect(again.figures).toEqual(once.figures);
  expect(once.figures.calls).toBeGreaterThan(1);
}, 300_000);

test('a contract whose rollouts do not wait is noticed, and shown by a few calls', async () => {
  const waits = 'uint64 from = _loosensFrom();\n        stored.manifests';
  const source = networkSource().replace(waits, waits.replace('_loosensFrom()', 'uint64(block.timestamp)'));
  const bytecode = `0x${compileTraceable(source).creation.object}`;
  const { failure } = await fuzz({ seed: SEED, sequences: 60, blocks: 16, bytecode });
  expect(failure?.message).toMatch(/the contract shows .*RolledOut.*, the model .*RolledOut/);
  // Four calls make the network ready; then the rollout, and the few that could not be removed.
  expect(failure!.message.split('\n').filter((line) => line.startsWith('  ')).length).toBeLessThanOrEqual(8);
}, 300_000);

test('code that cannot be deployed at all is an error of the fuzz, not a finding', async () => {
  const broken = fuzz({ seed: SEED, sequences: 1, bytecode: '0xfe' });
  await expect(broken).rejects.toMatchObject({ code: 'FUZZ_DEPLOY' });
});

test('the network calls nobody: its code has one call, static, to the precompile that recovers signers', () => {
  const code = Buffer.from(networkRuntimeBytecode.slice(2), 'hex');
  const found: { readonly op: number; readonly at: number }[] = [];
  for (let at = 0; at < code.length; at += code[at]! >= 0x60 && code[at]! <= 0x7f ? code[at]! - 0x5e : 1) {
    // CREATE, CALL, CALLCODE, DELEGATECALL, CREATE2, STATICCALL, SELFDESTRUCT; and ORIGIN, by which
    // whoever calls the contract that owns the network would pass for the owner.
    if ([0xf0, 0xf1, 0xf2, 0xf4, 0xf5, 0xfa, 0xff, 0x32].includes(code[at]!))
      found.push({ op: code[at]!, at });
  }
  expect(found.map(({ op }) => op)).toEqual([0xfa]);
  // GAS before it, and 1 as the address below that: PUSH1 1, GAS, STATICCALL.
  const { at } = found[0]!;
  expect(code.subarray(at - 3, at).toString('hex')).toBe('60015a');
});
