/**
 * The contract's long fuzz: `node contracts/fuzz.ts --sequences 10000 --seed 1`.
 *
 * Random sequences of calls by owner, nodes and strangers over time, on a real EVM, against a model of the whole contract
 * and against invariants that know nothing of the model. A failure is printed with its seed, its number and the shortest
 * sequence that still shows it, and exits with 1. Then it prints which branches of the contract a sample of the sequences ran. Whether the fuzz
 * notices a broken contract is asked by `npm run defences -- --point fuzz`.
 */
import { parseArgs } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { compileTraceable } from './compile.ts';
import { type CampaignResult, fuzz } from './fuzz/campaign.ts';
import { BranchCoverage, UNEXPLAINED } from './fuzz/coverage.ts';
import type { FuzzFigures } from './fuzz/statistics.ts';

const HELP = `node contracts/fuzz.ts [options]
  --sequences N  how many sequences to play (1000)
  --seed S       what they are made from (the time); printed, the same seed gives the same sequences
  --start N      the number of the first sequence (0): goes on where a run was stopped, or plays one again
  --coverage N   sequences that are traced for the branches of the source (150)
  --source       plays Network.sol as it is now instead of the committed bytecode; a failing sequence is not cut
  --json         a last line with all figures as JSON`;
const REPORT_EVERY_MS = 10_000;

interface Coverage {
  readonly covered: number;
  readonly total: number;
  readonly unexplained: number;
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      sequences: { type: 'string', default: '1000' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 1_000)) },
      start: { type: 'string', default: '0' },
      coverage: { type: 'string', default: '150' },
      source: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    print(HELP);
    return true;
  }
  const [sequences, seed, start, traced] = [values.sequences, values.seed, values.start, values.coverage].map(
    whole,
  ) as [number, number, number, number];
  const played = await play({ seed, start, sequences, source: values.source });
  const measured = traced > 0 && !played.failure ? await measure(seed, traced) : undefined;
  const failure = played.failure ?? measured?.failure;
  if (values.json) printJson({ seed, start, ...played, failure, coverage: measured?.coverage });
  return failure === undefined;
}

/** The campaign itself. */
async function play(what: {
  readonly seed: number;
  readonly start: number;
  readonly sequences: number;
  readonly source: boolean;
}): Promise<CampaignResult & { sequencesPerMinute: number }> {
  const { seed, start, sequences, source } = what;
  print(
    `fuzzing ${source ? 'Network.sol, unoptimised' : 'the deployed code'}: seed ${seed}, sequences ${start} to ${start + sequences - 1}`,
  );
  const begin = Date.now();
  const rate = (done: number): number => Math.round((done / (Date.now() - begin)) * 60_000);
  let reported = begin;
  const { figures, failure } = await fuzz({
    seed,
    start,
    sequences,
    ...(source ? { bytecode: `0x${compileTraceable().creation.object}`, shrink: false } : {}),
    progress: (done, { calls }) => {
      if (Date.now() - reported < REPORT_EVERY_MS) return;
      reported = Date.now();
      print(
        `  ${done} of ${sequences}, ${calls} calls, ${rate(done)} a minute; next: --start ${start + done}`,
      );
    },
  });
  const sequencesPerMinute = rate(figures.sequences);
  if (failure) {
    print(`FAILED: again with --seed ${seed} --start ${failure.number} --sequences 1`);
    print(...failure.message.split('\n'));
  }
  report(figures, sequencesPerMinute);
  return { figures, failure, sequencesPerMinute };
}

function report(figures: FuzzFigures, sequencesPerMinute: number): void {
  const { sequences, calls, views, attestations } = figures;
  print(
    `${sequences} sequences, ${calls} calls, ${views} views compared, ${sequencesPerMinute} sequences a minute`,
  );
  const list = (of: Readonly<Record<string, number>>): string =>
    Object.entries(of)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  print(`accepted: ${list(figures.accepted)}`);
  print(`refused: ${list(figures.refused)}`);
  print(`attestations: ${attestations.good} good, ${attestations.bad} bad`);
  print(`most gas: ${list(figures.mostGas)}`);
}

/** Branches of the source, in both directions, on unoptimised code. The sequences are compared as usual while they are traced. */
async function measure(
  seed: number,
  sequences: number,
): Promise<{ failure: CampaignResult['failure']; coverage: Coverage }> {
  const coverage = new BranchCoverage();
  const { failure } = await fuzz({ seed, sequences, bytecode: coverage.bytecode, coverage });
  const { covered, total, uncovered } = coverage.report();
  print(`branches of the source, both ways, in ${sequences} sequences: ${covered}/${total}`);
  for (const { where, missing, why } of uncovered) print(`  ${where}: ${missing}: ${why}`);
  if (failure) print(`FAILED: sequence ${failure.number}: ${failure.message}`);
  const unexplained = uncovered.filter(({ why }) => why === UNEXPLAINED).length;
  return { failure, coverage: { covered, total, unexplained } };
}

function whole(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`${text} is not a whole number\n${HELP}`);
  return Number(text);
}

if (import.meta.main) process.exitCode = (await main()) ? 0 : 1;
