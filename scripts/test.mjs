/**
 * `npm test`: all set-up, then every check and test. `-- --fast` leaves the VMs out (and says so in the count of the
 * skipped); `-- --disk` runs only the data disk's faults and power cuts, in VMs of the dev flavour; `-- --app` only what
 * a hostile app does to its node; `-- --site` only what becomes of the website's certificates; `-- --store` only an app with its node's store;
 * `-- --signer` only a validator with the signer of a VM; `-- --auction` only an app of the framework in VMs. The last line is `N passed, N failed, N skipped`, from the runner's own reports.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import {
  buildImage,
  buildTools,
  environment,
  installBrowser,
  installDebianPackages,
  installNpmPackages,
  node24,
  root,
  run,
} from './set-up.mjs';
import { firstLines, tally } from './test-counts.mjs';

const fast = process.argv.includes('--fast');
const counts = { passed: 0, failed: 0, skipped: 0 };
/** What failed, to be said once more at the end: of a long run, often only the end is kept. */
const notes = [];
/** Files that failed, in a run of some hundred: more than these are no chance. */
const TRIED_AGAIN = 3;

installDebianPackages();
installNpmPackages();
if (process.argv.includes('--disk')) {
  buildImage('dev');
  vitest('disk');
} else if (process.argv.includes('--app')) {
  buildImage('sim');
  // Its shell kills the agent under the ecosystem's client.
  buildImage('dev');
  vitest('app');
} else if (process.argv.includes('--site')) {
  buildImage('sim');
  vitest('site');
} else if (process.argv.includes('--store')) {
  buildImage('sim');
  vitest('store');
} else if (process.argv.includes('--auction')) {
  buildImage('sim');
  vitest('auction');
} else if (process.argv.includes('--signer')) {
  buildImage('sim');
  vitest('signer');
} else {
  installBrowser();
  run('npm', ['run', '--silent', 'check']);
  // First, because some of the tests without a VM run the image's own programs.
  if (fast) buildTools();
  else buildImage('sim');
  vitest('processes');
  if (fast) {
    console.log('--fast: the tests in test/vm are skipped');
    counts.skipped += 1;
  } else {
    vitest('vm');
  }
}
for (const note of notes) console.log(note);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);

/** Runs one project of vitest.config.ts, failed files once more if they are few, and adds up what the reports say. */
function vitest(project) {
  const first = runVitest(project);
  const failedFiles = first.files.filter(({ failed }) => failed > 0).map(({ name }) => name);
  const isWorthAnother =
    project === 'processes' && failedFiles.length > 0 && failedFiles.length <= TRIED_AGAIN;
  const result = tally(project, first, isWorthAnother ? runVitest(project, failedFiles) : undefined);
  for (const kind of Object.keys(counts)) counts[kind] += result[kind];
  notes.push(...result.notes);
}

/** @returns what the reports say of each file, and of errors outside of any test; a file that did not load counts as one failed test */
function runVitest(project, only = []) {
  const which = `${project}${only.length > 0 ? '-again' : ''}`;
  const report = join(root, `build/test-report-${which}.json`);
  const unhandled = join(root, `build/test-unhandled-${which}.json`);
  mkdirSync(join(root, 'build'), { recursive: true });
  for (const file of [report, unhandled]) rmSync(file, { force: true });
  const reporters = [
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    `--reporter=${join(root, 'scripts/unhandled-reporter.ts')}`,
    `--outputFile.unhandled=${unhandled}`,
  ];
  const { status } = spawnSync(
    node24,
    ['node_modules/vitest/vitest.mjs', 'run', `--project=${project}`, ...reporters, ...only],
    { cwd: root, stdio: 'inherit', env: environment() },
  );
  const read = (file) => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined);
  const results = read(report)?.testResults ?? [];
  return { status, files: results.map(summaryOf), unhandled: read(unhandled) ?? [] };
}

function summaryOf({ name: path, status, message, assertionResults: tests }) {
  const name = relative(root, path);
  const count = (...wanted) => tests.filter((test) => wanted.includes(test.status)).length;
  const said = tests
    .filter((test) => test.status === 'failed')
    .map((test) => `FAILED ${name}: ${test.fullName}\n${firstLines(test.failureMessages)}`);
  if (status === 'failed' && said.length === 0)
    said.push(`FAILED ${name}: the file\n${firstLines([message])}`);
  return {
    name,
    passed: count('passed'),
    failed: said.length,
    skipped: tests.length - count('passed', 'failed'),
    said,
  };
}
