/**
 * `npm test`: all set-up, then every check and test. `-- --fast` leaves the VMs out (and says so in the count of the
 * skipped); `-- --disk` runs only the data disk's faults and power cuts, in VMs of the dev flavour. The last line is `N passed, N failed, N skipped`, from the runner's own reports.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  environment,
  installDebianPackages,
  installNpmPackages,
  node24,
  root,
  run,
} from './set-up.mjs';

const fast = process.argv.includes('--fast');
const counts = { passed: 0, failed: 0, skipped: 0 };

installDebianPackages();
installNpmPackages();
if (process.argv.includes('--disk')) {
  buildImage('dev');
  vitest('disk');
} else {
  run('npm', ['run', '--silent', 'check']);
  // First, because some of the tests without a VM run the image's own programs.
  if (!fast) buildImage('sim');
  vitest('processes');
  if (fast) {
    console.log('--fast: the tests in test/vm are skipped');
    counts.skipped += 1;
  } else {
    vitest('vm');
  }
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);

/** Runs one project of vitest.config.ts and adds up what its report says. */
function vitest(project) {
  const report = join(root, `build/test-report-${project}.json`);
  mkdirSync(join(root, 'build'), { recursive: true });
  rmSync(report, { force: true });
  const { status } = spawnSync(
    node24,
    [
      'node_modules/vitest/vitest.mjs',
      'run',
      `--project=${project}`,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ],
    { cwd: root, stdio: 'inherit', env: environment() },
  );
  const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
  counts.passed += result?.numPassedTests ?? 0;
  counts.skipped += (result?.numPendingTests ?? 0) + (result?.numTodoTests ?? 0);
  // A file that did not load, or an error outside a test, has no failed test, so it counts as one.
  const failed = result?.numFailedTests ?? 0;
  counts.failed += status === 0 ? failed : Math.max(1, failed);
}
