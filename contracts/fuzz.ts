/**
 * The contract's long fuzz: `node contracts/fuzz.ts --sequences 10000 --seed 1`.
 *
 * Random sequences of calls by owner, nodes and strangers over time, on a real EVM, against a model of the whole contract
 * and against invariants that know nothing of the model. A failure is printed with its seed, its number and the shortest
 * sequence that still shows it, and exits with 1. Then the branches of the contract that a sample ran, and, with
 * `--mutants`, whether the fuzz notices each way of breaking the contract in fuzz/mutants.ts.
 */
import { parseArgs } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { CoverageOf, fuzz } from './fuzz/campaign.ts';
import { type CoverageReport, UNEXPLAINED } from './fuzz/coverage.ts';
import { MUTANTS, mutantBytecode } from './fuzz/mutants.ts';
import type { FuzzFigures } from './fuzz/statistics.ts';

const HELP = `node contracts/fuzz.ts [options]
  --sequences N  how many sequences to play (1000)
  --seed S       what they are made from (the time); printed, the same seed gives the same sequences
  --start N      the number of the first sequence (0): goes on where a run was stopped, or plays one again
  --coverage N   sequences that are traced for the branches of the source, and as many of the deployed code (150)
  --mutants      break the contract in each known way and see that the fuzz notices
  --first N      the first of those ways (0): goes on where a run was stopped
  --json         a last line with all figures as JSON`;
const REPORT_EVERY_MS = 10_000;
/** A mutant that lives through so many sequences is not noticed. */
const MUTANT_SEQUENCES = 200;

interface CoverageSummary {
  readonly source: readonly [covered: number, total: number];
  readonly compiler: readonly [covered: number, total: number];
  readonly unexplained: number;
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      sequences: { type: 'string', default: '1000' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 1_000)) },
      start: { type: 'string', default: '0' },
      coverage: { type: 'string', default: '150' },
      mutants: { type: 'boolean', default: false },
      first: { type: 'string', default: '0' },
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
  );
  const played = await play({ seed: seed!, start: start!, sequences: sequences! });
  const coverage = traced! > 0 && played.ok ? await measure(seed!, traced!) : undefined;
  const mutants = values.mutants && played.ok ? await breakIt(seed!, whole(values.first)) : undefined;
  if (values.json) printJson({ seed, start, ...played, coverage, mutants });
  return (
    played.ok &&
    (coverage?.deployed.ok ?? true) &&
    (mutants === undefined || mutants.noticed === mutants.total)
  );
}

/** The campaign itself, on the committed bytecode. */
async function play(what: {
  readonly seed: number;
  readonly start: number;
  readonly sequences: number;
}): Promise<{ ok: boolean; figures: FuzzFigures; sequencesPerMinute: number }> {
  const { seed, start, sequences } = what;
  print(`fuzzing the deployed code: seed ${seed}, sequences ${start} to ${start + sequences - 1}`);
  const begin = Date.now();
  const rate = (done: number): number => Math.round((done / (Date.now() - begin)) * 60_000);
  let reported = begin;
  const { figures, failure } = await fuzz({
    ...what,
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
    printJson(failure.sequence);
  }
  report(figures, sequencesPerMinute);
  return { ok: failure === undefined, figures, sequencesPerMinute };
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

/** Branches of the source, on unoptimised code; and of the deployed bytes. Both are fuzzed as well while traced. */
async function measure(
  seed: number,
  sequences: number,
): Promise<{ source: CoverageSummary; deployed: CoverageSummary & { ok: boolean } }> {
  print(`branches, both ways, of ${sequences} sequences`);
  const source = await trace(seed, sequences, false);
  const deployed = await trace(seed, sequences, true);
  return { source: source.summary, deployed: { ...deployed.summary, ok: source.ok && deployed.ok } };
}

async function trace(
  seed: number,
  sequences: number,
  optimized: boolean,
): Promise<{ ok: boolean; summary: CoverageSummary }> {
  const coverage = new CoverageOf(optimized);
  const { failure } = await fuzz({ seed, sequences, bytecode: coverage.bytecode, coverage });
  const { creation, runtime } = coverage.report();
  const both = (pick: (report: CoverageReport) => { covered: number; total: number }): [number, number] => {
    const [a, b] = [pick(creation), pick(runtime)];
    return [a.covered + b.covered, a.total + b.total];
  };
  const summary = {
    source: both((report) => report.source),
    compiler: both((report) => report.compiler),
    unexplained: [...creation.uncovered, ...runtime.uncovered].filter(({ why }) => why === UNEXPLAINED)
      .length,
  };
  const name = optimized ? 'deployed code' : 'unoptimised code, a jump for each branch of the source';
  print(
    `  ${name}: ${summary.source.join('/')} of the source, ${summary.compiler.join('/')} of the compiler`,
  );
  for (const { compilerUncovered } of [creation, runtime]) {
    const { panic, other, 'refusal without data': refusal } = compilerUncovered;
    print(
      `    the compiler's that did not run: ${panic} panics, ${refusal} refusals without data, ${other} others`,
    );
  }
  for (const [where, report] of [['constructor', creation] as const, ['code', runtime] as const]) {
    for (const { where: at, missing, why } of report.uncovered) {
      print(`    ${where} ${at}: ${missing}: ${why}`);
    }
  }
  if (failure) print(`  FAILED: sequence ${failure.number}: ${failure.message}`);
  return { ok: failure === undefined, summary };
}

async function breakIt(seed: number, first: number): Promise<{ total: number; noticed: number }> {
  const chosen = MUTANTS.slice(first);
  print(`${chosen.length} ways to break the contract`);
  let noticed = 0;
  for (const mutant of chosen) {
    const bytecode = mutantBytecode(mutant);
    const { figures, failure } = await fuzz({ seed, sequences: MUTANT_SEQUENCES, bytecode, shrink: false });
    if (failure) noticed += 1;
    const how = failure?.message.split('\n')[0]?.slice(0, 160);
    print(
      `  ${failure ? 'noticed' : 'NOT NOTICED'}: ${mutant.name}: after ${figures.sequences} sequences: ${how}`,
    );
  }
  print(`${noticed} of ${chosen.length} noticed`);
  return { total: chosen.length, noticed };
}

function whole(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`${text} is not a whole number\n${HELP}`);
  return Number(text);
}

if (import.meta.main) process.exitCode = (await main()) ? 0 : 1;
