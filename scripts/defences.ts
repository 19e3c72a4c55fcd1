/**
 * `npm run defences`: removes the defences of scripts/defences/mutations one by one, each in a copy of this tree, and sees the
 * test that guards it fail, or the contract's fuzz (`--point fuzz`). Exits 1 if a removal goes unnoticed.
 *
 *   npm run defences [-- --point N] [--new] [--jobs N] [--fresh]
 *
 * Results are kept in build/defences/ as long as the sources stay the same, so that an interrupted run can go on and points can
 * be run one by one (`--point`). docs/defences.md is written once every removal of the table was seen on these sources, or, for
 * `--new`, which runs those alone that the page has no line for, with the lines that were there. `--fresh` ignores earlier results.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { print } from '../lib/daemon/terminal.ts';
import { Locator } from './defences/locate.ts';
import type { Mutation } from './defences/mutation.ts';
import { allMutations } from './defences/mutations.ts';
import { findLine, lineOf, pageOf } from './defences/page.ts';
import { type Result, Results } from './defences/results.ts';
import { type Ran, Workspace } from './defences/workspace.ts';

const root = join(import.meta.dirname, '..');
const page = join(root, 'docs/defences.md');
const readme = join(root, 'README.md');

/** How the message of a failed assertion or property begins, of a wait in vain (but not for a daemon to start), or of a finding of the fuzz. */
const ASSERTION =
  /^(AssertionError: |Error: expected |Error: promise resolved |Error: Property failed after |Error: waited \d+ ms in vain for |the fuzz noticed: )/;
const SET_UP = / to (start|serve|listen|ask)$/;

const { values } = parseArgs({
  options: {
    point: { type: 'string' },
    new: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '2' },
    fresh: { type: 'boolean', default: false },
  },
});
const locator = new Locator(root);
const mutations = allMutations.map((mutation) => locator.locate(mutation));
const listed = mutations.filter(({ point }) => point !== 'fuzz');
const before = readFileSync(page, 'utf8');
const chosen = values.new
  ? listed.filter((mutation) => findLine(before, mutation) === undefined)
  : mutations.filter(({ point }) => values.point === undefined || String(point) === values.point);
const results = new Results(root);
const scratch = mkdtempSync(join(tmpdir(), 'dstack-defences-'));
const started = performance.now();
try {
  const known = values.fresh ? [] : chosen.filter((mutation) => results.find(mutation) !== undefined);
  if (known.length > 0) print(`${known.length} of ${chosen.length} were seen on these sources before`);
  const bad = await runAll(
    chosen.filter((mutation) => !known.includes(mutation)),
    Number(values.jobs),
  );
  const seconds = Math.round((performance.now() - started) / 1000);
  print(
    `${chosen.length - bad} of ${chosen.length} removals seen by their test${known.length > 0 ? '' : `, in ${seconds} s`}`,
  );
  writePage();
  process.exitCode = bad === 0 && (values.new || chosen.length > 0) ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** Several at once, each worker in a copy of its own. Returns how many were not seen. */
async function runAll(list: readonly Mutation[], jobs: number): Promise<number> {
  let next = 0;
  let bad = 0;
  const worker = async (number: number): Promise<void> => {
    if (list.length === 0) return;
    const workspace = new Workspace(root, join(scratch, String(number)));
    for (let at = next++; at < list.length; at = next++) {
      const mutation = list[at]!;
      const result = await runOne(mutation, workspace);
      results.keep(mutation, result);
      if (result.verdict !== 'seen') bad += 1;
      print(
        `${result.verdict.padEnd(6)} ${mutation.point}: without ${mutation.removes}: ${result.test} — ${result.said}`,
      );
    }
  };
  await Promise.all(Array.from({ length: jobs }, (_, number) => worker(number)));
  return bad;
}

async function runOne(mutation: Mutation, workspace: Workspace): Promise<Result> {
  try {
    const control = results.findControl(mutation) ?? (await workspace.test(mutation.test));
    const broken = control.find(({ passed }) => !passed);
    if (broken !== undefined) return nothing(`it fails with the defence in place too: ${broken.said}`);
    results.keepControl(mutation, control);
    return judge(mutation, control, await workspace.without(mutation, () => workspace.test(mutation.test)));
  } catch (error) {
    return nothing((error as Error).message.slice(0, 500));
  }
}

/** Only a failed assertion counts as seen: a file that no longer loads, or a set-up that fails, says nothing. */
function judge({ test: { file, name } }: Mutation, control: readonly Ran[], ran: readonly Ran[]): Result {
  const failed = ran.find(({ passed }) => !passed);
  if (failed !== undefined) {
    return ASSERTION.test(failed.said) && !SET_UP.test(failed.said)
      ? { verdict: 'seen', test: failed.title, said: failed.said }
      : nothing(`no assertion failed, but: ${failed.said}`);
  }
  if (ran.length === 0 || ran.length !== control.length) return nothing(`${ran.length} tests ran`);
  return { verdict: 'UNSEEN', test: name, said: `${file} -t ${name} still passes` };
}

function nothing(said: string): Result {
  return { verdict: 'BROKEN', test: '', said };
}

function writePage(): void {
  let old = 0;
  const lines = listed.flatMap((mutation) => {
    const result = results.find(mutation);
    if (result !== undefined) return [lineOf(mutation, result)];
    const line = values.new ? findLine(before, mutation) : undefined;
    if (line !== undefined) old += 1;
    return line ?? [];
  });
  if (lines.length === listed.length) {
    writeFileSync(page, pageOf(lines, old === 0));
    const said = readFileSync(readme, 'utf8');
    writeFileSync(readme, said.replace(/(takes each of )\d+( defences)/, `$1${lines.length}$2`));
    print(`docs/defences.md is written, and the README's number: ${lines.length}`);
  } else {
    print(
      `docs/defences.md is left as it is: ${listed.length - lines.length} removals were not seen yet on these sources`,
    );
  }
}
