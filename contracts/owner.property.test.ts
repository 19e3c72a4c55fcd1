/**
 * What the owner can do, against a model that is too simple to be wrong: whatever the order of rollouts, rollbacks,
 * withdrawals, changes of the delay and passing time, the contract shows what the model shows.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { to0x } from '../lib/protocol/encoding.ts';
import * as contract from '../lib/protocol/network-contract.ts';
import { type Anvil, startAnvil } from '../test/support/anvil.ts';
import { appId, Chain, Refused, TestNetwork, value } from './fixture.ts';

const ZERO_WORD = `0x${'0'.repeat(64)}`;
const APP = appId('web');
const FIRST_DELAY = 1_000;
/** `FUZZ_RUNS=1000` for a long look. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 25);

let anvil: Anvil;
let chain: Chain;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
});
afterAll(() => anvil.stop());

type Step =
  | { readonly do: 'rollout'; readonly manifest: number }
  | { readonly do: 'rollback' }
  | { readonly do: 'withdraw' }
  | { readonly do: 'delay'; readonly delay: number };

const steps = fc.array(
  fc.record({
    step: fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('rollout' as const), manifest: fc.nat(3) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('rollback' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const) }) },
      {
        weight: 2,
        arbitrary: fc.record({
          do: fc.constant('delay' as const),
          delay: fc.constantFrom(0, 1, 500, 1_000, 1_500),
        }),
      },
    ),
    // Seconds since the step before; around the delays, where the edges are.
    after: fc.constantFrom(1, 2, 499, 500, 501, 999, 1_000, 1_001, 1_500),
  }),
  { minLength: 1, maxLength: 12 },
);

/** The owner's view of one app and the delay, in plain words. */
class Model {
  inForce: string | undefined;
  pending: { manifest: string; from: bigint } | undefined;
  previous: string | undefined;
  delay = FIRST_DELAY;
  nextDelay: { delay: number; from: bigint } | undefined;

  /** What has come into force by now. */
  settle(now: bigint): void {
    if (this.pending && now >= this.pending.from) {
      this.previous = this.inForce;
      this.inForce = this.pending.manifest;
      this.pending = undefined;
    }
    if (this.nextDelay && now >= this.nextDelay.from) {
      this.delay = this.nextDelay.delay;
      this.nextDelay = undefined;
    }
  }

  /** @returns the refusal, if it is one */
  apply(step: Step, now: bigint): contract.NetworkError['name'] | undefined {
    this.settle(now);
    switch (step.do) {
      case 'rollout':
        this.pending = { manifest: manifest(step.manifest), from: now + BigInt(this.delay) };
        break;
      case 'rollback':
        if (!this.pending && !this.previous) return 'NoPreviousManifest';
        if (!this.pending) this.inForce = this.previous;
        this.pending = undefined;
        this.previous = undefined;
        break;
      case 'withdraw':
        if (!this.pending && !this.inForce) return 'NoManifest';
        this.pending = undefined;
        this.inForce = undefined;
        this.previous = undefined;
        break;
      case 'delay':
        this.nextDelay = undefined;
        if (step.delay >= this.delay) this.delay = step.delay;
        else this.nextDelay = { delay: step.delay, from: now + BigInt(this.delay) };
        break;
    }
    this.settle(now);
    return undefined;
  }
}

function manifest(index: number): string {
  return to0x(value(`manifest ${index}`));
}

function calldata(step: Step): string {
  switch (step.do) {
    case 'rollout':
      return contract.encodeRollout({ app: APP, manifestHash: manifest(step.manifest) });
    case 'rollback':
      return contract.encodeRollback({ app: APP });
    case 'withdraw':
      return contract.encodeWithdraw({ app: APP });
    case 'delay':
      return contract.encodeSetDelay({ delay: step.delay });
  }
}

test(
  'the contract does what the model does',
  async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const network = await TestNetwork.bootstrapped(chain, { delay: FIRST_DELAY });
        const model = new Model();
        let now = (await chain.head()).time;
        for (const { step, after } of sequence) {
          now += BigInt(after);
          await chain.nextBlockAt(now);
          const refusal = await network.asOwner(calldata(step)).then(
            () => undefined,
            (error: unknown) => (error instanceof Refused ? error.refusal?.name : error),
          );
          expect(refusal).toBe(model.apply(step, now));

          const shown = await network.app('web');
          expect(shown.manifestHash).toBe(model.inForce ?? ZERO_WORD);
          expect(shown.latest).toBe(model.pending?.manifest ?? model.inForce ?? ZERO_WORD);
          if (model.pending) expect(shown.from).toBe(model.pending.from);
          expect((await network.state()).delay).toBe(model.delay);
        }
      }),
      { numRuns: RUNS },
    );
  },
  RUNS * 2_000,
);
