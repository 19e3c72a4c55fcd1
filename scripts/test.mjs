/** `npm test`: set-up, then every check and test. The last line is `N passed, N failed, N skipped`, from the runner's report. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { environment, installDebianPackages, installNpmPackages, node24, root, run } from './set-up.mjs';

const onlyFast = process.argv.includes('--fast');

installDebianPackages();
installNpmPackages();
run('npm', ['run', '--silent', 'check']);
const report = join(root, 'build/test-report.json');
mkdirSync(join(root, 'build'), { recursive: true });
rmSync(report, { force: true });
const { status } = spawnSync(
  node24,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ],
  { cwd: root, stdio: 'inherit', env: { ...environment(), ...(onlyFast ? { DSTACK_TEST_FAST: '1' } : {}) } },
);
const counts = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
const passed = counts?.numPassedTests ?? 0;
// A suite that did not even load has no failed tests: it counts as one.
const failed = counts ? Math.max(counts.numFailedTests, counts.success ? 0 : 1) : 1;
const skipped = counts ? counts.numPendingTests + counts.numTodoTests : 0;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(status === 0 && failed === 0 && passed > 0 ? 0 : 1);
