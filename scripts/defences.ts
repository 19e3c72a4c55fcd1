/**
 * `npm run defences`: removes the defences behind the thirteen points one by one, each in a copy of this tree, and sees the
 * test that guards it fail. Writes docs/defences.md; exits 1 if a removal goes unnoticed.
 *
 *   npm run defences [-- --point N] [--jobs N]
 *
 * `--point` runs those of one point and writes nothing. A copy is needed because daemons run from their sources.
 */
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { type Edit, type Mutation, mutations } from './defences/mutations.ts';

const root = join(import.meta.dirname, '..');
const page = join(root, 'docs/defences.md');
const execute = promisify(execFile);

interface Result {
  mutation: Mutation;
  /** Why it counts as noticed, or does not. */
  verdict: 'red' | 'SURVIVED' | 'BROKEN';
  test: string;
  said: string;
}

const { values } = parseArgs({
  options: { point: { type: 'string' }, jobs: { type: 'string', default: '2' } },
});
const chosen = mutations.filter(({ point }) => values.point === undefined || point === Number(values.point));
const scratch = mkdtempSync(join(tmpdir(), 'dstack-defences-'));
const started = performance.now();
try {
  const results = await runAll(chosen, Number(values.jobs));
  const bad = results.filter(({ verdict }) => verdict !== 'red');
  if (values.point === undefined && bad.length === 0) writeFileSync(page, pageOf(results));
  const seconds = Math.round((performance.now() - started) / 1000);
  console.log(
    `${results.length - bad.length} of ${results.length} removals seen by their test, in ${seconds} s`,
  );
  process.exitCode = bad.length === 0 && results.length > 0 ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** A few at once, each worker in a copy of its own. The results are in the order of the table. */
async function runAll(list: readonly Mutation[], jobs: number): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async (number: number): Promise<void> => {
    const copy = join(scratch, String(number));
    copyTree(copy);
    for (let at = next++; at < list.length; at = next++) {
      const result = await runOne(list[at]!, copy);
      results[at] = result;
      console.log(
        `${result.verdict.padEnd(8)} ${list[at]!.point}: without ${list[at]!.removes}: ${result.said}`,
      );
    }
  };
  await Promise.all(Array.from({ length: jobs }, (_, number) => worker(number)));
  return results;
}

/** Every file that git knows or would add; a real copy, since the mutated tree writes into itself. */
function copyTree(copy: string): void {
  const listed = spawnSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: root });
  for (const file of listed.stdout.toString().split('\0')) {
    if (file === '' || file === 'node_modules') continue;
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(join(root, file), join(copy, file), { verbatimSymlinks: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
}

async function runOne(mutation: Mutation, copy: string): Promise<Result> {
  const touched = new Set(mutation.edits.map(({ file }) => file));
  const generated = ['contracts/bindings.ts', 'lib/protocol/network-contract.ts'];
  const compiled = [...touched].some((file) => file.endsWith('.sol'));
  try {
    for (const edit of mutation.edits) applyEdit(copy, edit);
    if (compiled) await execute(process.execPath, ['contracts/build.ts'], { cwd: copy });
    return { mutation, ...(await testIn(copy, mutation)) };
  } catch (error) {
    return { mutation, verdict: 'BROKEN', test: '', said: (error as Error).message.slice(0, 500) };
  } finally {
    for (const file of [...touched, ...(compiled ? generated : [])])
      cpSync(join(root, file), join(copy, file));
  }
}

function applyEdit(copy: string, { file, find, replace }: Edit): void {
  const path = join(copy, file);
  const parts = readFileSync(path, 'utf8').split(find);
  if (parts.length !== 2) {
    throw new Error(
      `${file} holds ${JSON.stringify(find)} ${parts.length - 1} times, not once: update the table`,
    );
  }
  writeFileSync(path, parts.join(replace));
}

/** Runs the one test; noticed only if a test failed, not if a file no longer loads. */
async function testIn(copy: string, { test }: Mutation): Promise<Omit<Result, 'mutation'>> {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project=processes', test.file, '-t', test.name];
  const options = ['--testTimeout=30000', '--reporter=json', `--outputFile.json=${report}`];
  // A refusal is what is hoped for: its exit code says nothing more than the report.
  await execute(process.execPath, [...vitest, ...options], { cwd: copy, maxBuffer: 64 * 1024 * 1024 }).catch(
    () => {},
  );
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
    testResults: {
      message: string;
      assertionResults: { status: string; title: string; failureMessages: string[] }[];
    }[];
  };
  const ran = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = ran.find(({ status }) => status === 'failed');
  if (failed !== undefined) {
    return { verdict: 'red', test: failed.title, said: firstLine(failed.failureMessages[0] ?? '') };
  }
  if (!ran.some(({ status }) => status === 'passed')) {
    return { verdict: 'BROKEN', test: '', said: `no test ran: ${testResults[0]?.message.slice(0, 300)}` };
  }
  return { verdict: 'SURVIVED', test: test.name, said: `${test.file} -t ${test.name} still passes` };
}

/** What a failed assertion says, without colours and stack. */
function firstLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what colours are made of
  const plain = message.replace(/\u001b\[[0-9;]*m/g, '');
  const line = plain.split('\n').find((each) => each.trim() !== '') ?? '';
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}

function pageOf(results: readonly Result[]): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', '⏎').trim();
  const code = (text: string): string => `\`${cell(text.replaceAll('`', '′').replace(/\s*\n\s*/g, ' ⏎ '))}\``;
  const rows = results.map(({ mutation, test, said }) => {
    const [edit] = mutation.edits as [Edit, ...Edit[]];
    const more = mutation.edits.length > 1 ? ` and ${mutation.edits.length - 1} more` : '';
    return `| ${mutation.point} | ${cell(mutation.removes)} | \`${edit.file}\` ${code(edit.find)}${more} | ${cell(test)} | ${code(said)} |`;
  });
  return `# The thirteen defences, removed one by one

Written by \`npm run defences\`, which removes or weakens each line below in a copy of the tree and runs the test that guards
it. All ${results.length} were noticed. The points are those under "Trust" in the [threat model](threat-model.md); the removals are in
\`scripts/defences/mutations.ts\`.

| point | removed | where | test that failed | what it said |
|---|---|---|---|---|
${rows.join('\n')}
`;
}
