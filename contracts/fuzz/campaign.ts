/**
 * A fuzz campaign: many sequences, each of its own seed, on one anvil. What it found, what it did, and, if asked, which
 * branches ran.
 */
import fc from 'fast-check';
import { DstackError } from '../../lib/protocol/errors.ts';
import { networkBytecode } from '../bindings.ts';
import { compileTraceable } from '../compile.ts';
import { FuzzChain, type MinedBlock } from './chain.ts';
import { BranchCoverage, type CoverageReport, type StructLog } from './coverage.ts';
import { runSequence, type Sent, type ViewCall } from './run.ts';
import { type Sequence, sequences } from './sequence.ts';
import { type SequenceFailure, shrink } from './shrink.ts';
import { type FuzzFigures, FuzzStatistics } from './statistics.ts';

/** Blocks with calls that a sequence has at most. */
const BLOCKS = 48;
/** How long a failing sequence is cut down at most. */
const SHRINK_LIMIT_MS = 120_000;
/** Views change little: their branches are traced in each so manieth block. */
const VIEWS_EVERY = 10;
/** Anvil keeps something of every block that it ever mined, so it is replaced after so many sequences. */
const SEQUENCES_AN_ANVIL = 500;

export interface CampaignOptions {
  readonly seed: number;
  /** The number of the first sequence: a campaign that was stopped goes on from there. */
  readonly start?: number;
  readonly sequences: number;
  /** Creation code, `0x` hex; the committed one unless told. */
  readonly bytecode?: string;
  /** False leaves a failing sequence as it is. */
  readonly shrink?: boolean;
  readonly blocks?: number;
  readonly coverage?: CoverageOf;
  /** Is told after each sequence. */
  readonly progress?: (done: number, figures: FuzzFigures) => void;
}

export interface CampaignFailure {
  /** The number of the sequence that failed; with the seed it makes the same one again. */
  readonly number: number;
  /** What differed, and all calls up to there, of the shortest sequence that still fails. */
  readonly message: string;
  readonly sequence: Sequence;
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

async function one(
  chain: FuzzChain,
  number: number,
  options: CampaignOptions,
  statistics: FuzzStatistics,
): Promise<CampaignFailure | undefined> {
  const { bytecode, coverage } = options;
  const observe = coverage?.observer(chain);
  const play = (sequence: Sequence, counted: boolean): Promise<SequenceFailure | undefined> =>
    runSequence(chain, sequence, {
      ...(counted ? { statistics } : {}),
      ...(bytecode === undefined ? {} : { bytecode }),
      ...(observe === undefined ? {} : { observe }),
    });
  const arbitrary = sequences(options.blocks ?? BLOCKS);
  // One draw for each seed, so that any sequence can be made again without those before it.
  const sequence = fc.sample(arbitrary, { seed: seedOf(options.seed, number), numRuns: 1 })[0]!;
  const failure = await play(sequence, true);
  if (!failure) return undefined;
  const found = { sequence, failure };
  const deadline = Date.now() + SHRINK_LIMIT_MS;
  const shrunk = options.shrink === false ? found : await shrink(found, (it) => play(it, false), deadline);
  return { number, message: shrunk.failure.message, sequence: shrunk.sequence };
}

/** Spreads (seed, number) over fast-check's 32 bits; an odd factor keeps a campaign's sequences apart. */
function seedOf(seed: number, number: number): number {
  return (Math.imul(seed, 0x9e3779b1) + Math.imul(number, 0x85ebca6b)) | 0;
}

/** Collects which branches ran, of the constructor and of the code that it leaves. */
export class CoverageOf {
  readonly bytecode: string;
  readonly #creation: BranchCoverage;
  readonly #runtime: BranchCoverage;
  readonly #seen = new Set<string>();
  #blocks = 0;

  /**
   * @param optimized whether to look at the deployed bytes, or at unoptimised code whose branches are the source's
   * @throws DstackError `BINDINGS_STALE` when the deployed bytes are not the committed ones
   */
  constructor(optimized: boolean) {
    const network = compileTraceable({ optimized });
    this.bytecode = `0x${network.creation.object}`;
    if (optimized && this.bytecode !== networkBytecode) {
      throw new DstackError(
        'BINDINGS_STALE',
        'contracts/bindings.ts is not of this source: npm run bindings',
      );
    }
    this.#creation = new BranchCoverage('creation', network);
    this.#runtime = new BranchCoverage('runtime', network);
  }

  report(): { readonly creation: CoverageReport; readonly runtime: CoverageReport } {
    return { creation: this.#creation.report(), runtime: this.#runtime.report() };
  }

  observer(
    chain: FuzzChain,
  ): (block: MinedBlock, sent: readonly Sent[], views: readonly ViewCall[]) => Promise<void> {
    const options = { disableStack: true, disableMemory: true, disableStorage: true };
    return async (block, sent, views) => {
      for (const [i, transaction] of block.transactions.entries()) {
        const { name, direct } = sent[i]!;
        // Two runs of the same function with the same gas almost always went the same way; where they did not,
        // coverage is understated.
        const kind = `${name} ${transaction.ok} ${transaction.gasUsed}`;
        if (!direct || this.#seen.has(kind)) continue;
        this.#seen.add(kind);
        const trace = await chain.rpc<Trace>('debug_traceTransaction', transaction.hash, options);
        (name === 'deploy' ? this.#creation : this.#runtime).add(trace.structLogs);
      }
      this.#blocks += 1;
      if (this.#blocks % VIEWS_EVERY !== 0) return;
      for (const { to, data } of views) {
        const trace = await chain.rpc<Trace>('debug_traceCall', { to, data }, 'latest', options);
        this.#runtime.add(trace.structLogs);
      }
    };
  }
}

interface Trace {
  readonly structLogs: readonly StructLog[];
}
