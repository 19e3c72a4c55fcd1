/**
 * What a fuzz sequence is made of, as plain numbers that fast-check draws and shrinks.
 *
 * Nothing here names an address, a hash or a time: a choice such as "answer the second open request, with a high s" gets
 * its meaning in world.ts, from the model's state when its turn comes. So a sequence with steps removed still
 * makes sense, which is what lets a failure shrink to the few calls that matter.
 */
import fc from 'fast-check';

/** All kinds of calls, and how likely each is. */
const KINDS = {
  register: 12,
  'register and onboard': 6,
  onboard: 10,
  rollout: 9,
  rollback: 5,
  allowMeasurement: 4,
  allowConfig: 4,
  allowPlatform: 5,
  setDelay: 5,
  setMinimumTcbEvaluationNumber: 3,
  setAcceptedTcbStatuses: 5,
  setTcbOutOfDateGrace: 3,
  setDeniedFmspc: 8,
  replay: 6,
  revokeMeasurement: 2,
  revokeConfig: 1,
  revokePlatform: 3,
  openPlatforms: 3,
  closePlatforms: 2,
  bootstrap: 6,
  withdraw: 3,
  malformed: 6,
  attest: 3,
  transferOwnership: 2,
  acceptOwnership: 2,
  renounceOwnership: 1,
  spam: 1,
} as const;
export type Kind = keyof typeof KINDS;

/** What is wrong with a signed call. */
const FLAWS = {
  none: 22,
  'other key': 2,
  'other chain': 1,
  'other contract': 1,
  'other purpose': 1,
  'other epoch': 1,
  'other field': 2,
  'high s': 1,
  'no signature': 1,
  'r out of range': 1,
  'zero signer': 1,
  'other block': 4,
} as const;
export type Flaw = keyof typeof FLAWS;

/** One call, or one burst of registrations. */
export interface Choice {
  readonly kind: Kind;
  /** Which account; most numbers mean the one that may. */
  readonly actor: number;
  /** Which value, request, app, earlier call. */
  readonly pick: number;
  /** A second one, where a call needs it. */
  readonly other: number;
  readonly flaw: Flaw;
  /** Somebody else front-runs it: posts the same call before it, in the same block. */
  readonly frontRun: boolean;
}

/** What passes before a block. */
export type Wait =
  | { readonly until: 'seconds'; readonly seconds: number }
  /** A second before, at or after something pending takes effect. */
  | { readonly until: 'effect'; readonly pick: number; readonly offset: number }
  /** A block before, at or after the last one in which a request can be answered. */
  | { readonly until: 'expiry'; readonly pick: number; readonly offset: number }
  | { readonly until: 'blocks'; readonly blocks: number }
  /** The chain splits: from now on its id is another one. */
  | { readonly until: 'fork' };

/** One block with calls. */
export interface Step {
  readonly wait: Wait;
  readonly calls: readonly Choice[];
}

export interface Sequence {
  readonly deploy: {
    readonly delay: number;
    readonly requestWindow: number;
    /** What is wrong with a deployment tried before the good one. */
    readonly refused: 'nothing' | 'no owner' | 'no window' | 'long delay';
  };
  /** How far the network is when the random part begins: 0 deployed, 1 allowed, 2 bootstrapped, 3 one node onboarded. */
  readonly headStart: number;
  readonly steps: readonly Step[];
}

function weighted<T extends string>(weights: Readonly<Record<T, number>>): fc.Arbitrary<T> {
  const entries = Object.entries(weights) as [T, number][];
  return fc.oneof(...entries.map(([value, weight]) => ({ weight, arbitrary: fc.constant(value) })));
}

const choice: fc.Arbitrary<Choice> = fc.record({
  kind: weighted<Kind>(KINDS),
  actor: fc.nat(15),
  pick: fc.nat(999),
  other: fc.nat(999),
  flaw: weighted<Flaw>(FLAWS),
  frontRun: fc.oneof(
    { weight: 14, arbitrary: fc.constant(false) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
});

const offset = fc.constantFrom(0, -1, 1);
const wait: fc.Arbitrary<Wait> = fc.oneof(
  {
    weight: 60,
    arbitrary: fc.record({
      until: fc.constant('seconds' as const),
      seconds: fc.constantFrom(1, 2, 12, 500, 999, 1_000, 1_001, 86_400),
    }),
  },
  { weight: 60, arbitrary: fc.record({ until: fc.constant('effect' as const), pick: fc.nat(99), offset }) },
  { weight: 30, arbitrary: fc.record({ until: fc.constant('expiry' as const), pick: fc.nat(99), offset }) },
  {
    weight: 20,
    arbitrary: fc.record({ until: fc.constant('blocks' as const), blocks: fc.integer({ min: 2, max: 9 }) }),
  },
  {
    // The chain remembers the hashes of 256 blocks.
    weight: 1,
    arbitrary: fc.record({
      until: fc.constant('blocks' as const),
      blocks: fc.integer({ min: 254, max: 258 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ until: fc.constant('fork' as const) }) },
);

const calls = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(choice) },
  { weight: 2, arbitrary: fc.tuple(choice, choice) },
  { weight: 1, arbitrary: fc.tuple(choice, choice, choice) },
);

/** @param blocks how many blocks with calls a sequence has at most, besides its head start */
export function sequences(blocks: number): fc.Arbitrary<Sequence> {
  // Each sequence is the only draw of its seed, and fast-check would begin every seed with edge values.
  return fc.noBias(
    fc.record({
      deploy: fc.record({
        delay: fc.constantFrom(1_000, 0, 1, 86_400, 365 * 86_400),
        requestWindow: fc.constantFrom(3, 1, 20, 3, 20, 260),
        refused: fc.oneof(
          { weight: 8, arbitrary: fc.constant('nothing' as const) },
          { weight: 1, arbitrary: fc.constantFrom('no owner', 'no window', 'long delay') },
        ),
      }),
      headStart: fc.constantFrom(2, 3, 1, 0, 2, 3, 2, 3),
      steps: fc.array(fc.record({ wait, calls }), { minLength: 1, maxLength: blocks, size: 'max' }),
    }),
  );
}

const sound = (kind: Kind): Choice => ({ kind, actor: 0, pick: 0, other: 0, flaw: 'none', frontRun: false });
const inABlock = (...kinds: Kind[]): Step => ({
  wait: { until: 'seconds', seconds: 12 },
  calls: kinds.map(sound),
});

/** The valid calls that a head start stands for. */
export function headStartSteps(headStart: number): readonly Step[] {
  return [
    inABlock('allowMeasurement', 'allowConfig', 'allowPlatform'),
    inABlock('bootstrap'),
    inABlock('register'),
    inABlock('onboard'),
  ].slice(0, [0, 1, 2, 4][headStart]);
}
