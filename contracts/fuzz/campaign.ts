/**
 * A fuzz campaign: many sequences, each with a seed of its own, on one anvil. Returns what it found and did, and, if asked,
 * which branches ran.
 */
import fc from 'fast-check';
import { FuzzChain } from './chain.ts';
import type { BranchCoverage } from './coverage.ts';
import { runSequence } from './run.ts';
import { sequences } from './sequence.ts';
import { type FuzzFigures, FuzzStatistics } from './statistics.ts';

/** Blocks with calls that a sequence has at most. */
const BLOCKS = 48;
/** The longest time that shrinking a failing sequence may take. */
const SHRINK_LIMIT_MS = 120_000;
/** Anvil keeps data of every block that it ever mined, so it is replaced after this many sequences. */
const SEQUENCES_AN_ANVIL = 500;

export interface CampaignOptions {
  readonly seed: number;
  /** The number of the first sequence: a campaign that was stopped goes on from there. */
  readonly start?: number;
  readonly sequences: number;
  /** Creation code, `0x` hex; the committed one unless told. */
  readonly bytecode?: string;
  /** False reports a failing sequence without shrinking it. */
  readonly shrink?: boolean;
  readonly blocks?: number;
  /** Measures which branches run; the bytecode has to be its own. */
  readonly coverage?: BranchCoverage;
  /** Called after each sequence. */
  readonly progress?: (done: number, figures: FuzzFigures) => void;
}

export interface CampaignFailure {
  /** The number of the sequence that failed; with the seed it makes the same one again. */
  readonly number: number;
  /** What differed, and all calls up to there, of the shortest sequence found that still fails. */
  readonly message: string;
}

export interface CampaignResult {
  readonly figures: FuzzFigures;
  readonly failure: CampaignFailure | undefined;
}

/** Plays sequences until one fails or all are done. */
export async function fuzz(options: CampaignOptions): Promise<CampaignResult> {
  const statistics = new FuzzStatistics();
  const first = options.start ?? 0;
  let chain: FuzzChain | undefined;
  try {
    for (let i = 0; i < options.sequences; i++) {
      if (i % SEQUENCES_AN_ANVIL === 0) {
        await chain?.stop();
        chain = await FuzzChain.start({ traces: options.coverage !== undefined });
      }
      const failure = await one(chain!, first + i, options, statistics);
      if (failure) return { figures: statistics.figures(), failure };
      options.progress?.(i + 1, statistics.figures());
    }
    return { figures: statistics.figures(), failure: undefined };
  } finally {
    await chain?.stop();
  }
}

/** Plays one sequence; shrinks it to the calls that matter if it fails. */
async function one(
  chain: FuzzChain,
  number: number,
  options: CampaignOptions,
  statistics: FuzzStatistics,
): Promise<CampaignFailure | undefined> {
  const { bytecode, coverage } = options;
  let played = 0;
  let shortest: string | undefined;
  let broken: unknown;
  const property = fc.asyncProperty(sequences(options.blocks ?? BLOCKS), async (sequence) => {
    // Sequences played while shrinking are not counted.
    const counted = played++ === 0 ? { statistics } : {};
    const message = await runSequence(chain, sequence, {
      ...counted,
      ...(bytecode === undefined ? {} : { bytecode }),
      ...(coverage === undefined ? {} : { observe: (...seen) => coverage.observe(chain, ...seen) }),
    }).catch((error: unknown) => {
      broken = error;
      return undefined;
    });
    shortest = message ?? shortest;
    return message === undefined;
  });
  await fc.check(property, {
    // One draw per seed, so that any sequence can be made again without those before it.
    seed: seedOf(options.seed, number),
    numRuns: 1,
    endOnFailure: options.shrink === false,
    interruptAfterTimeLimit: SHRINK_LIMIT_MS,
  });
  // The fuzz itself failed, not the contract.
  if (broken !== undefined) throw broken;
  return shortest === undefined ? undefined : { number, message: shortest };
}

/** Spreads (seed, number) over fast-check's 32 bits; an odd factor keeps a campaign's sequences apart. */
function seedOf(seed: number, number: number): number {
  return (Math.imul(seed, 0x9e3779b1) + Math.imul(number, 0x85ebca6b)) | 0;
}
