/**
 * A reporter of vitest that writes what went wrong outside of any test, which the JSON report does not have: a list of texts, to the
 * file that `--outputFile.unhandled` names.
 */
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule, Vitest } from 'vitest/node';

export default class UnhandledReporter implements Reporter {
  #vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(_: readonly TestModule[], errors: readonly SerializedError[]): void {
    const { outputFile, root } = this.#vitest!.config;
    const path = typeof outputFile === 'object' ? outputFile.unhandled : undefined;
    if (path === undefined) throw new Error('this reporter needs --outputFile.unhandled=PATH');
    writeFileSync(path, JSON.stringify(errors.map((error) => textOf(error, root))));
  }
}

/** `VITEST_TEST_PATH`: the file that ran at that moment, which vitest knows of most errors. */
function textOf(error: SerializedError & { VITEST_TEST_PATH?: string }, root: string): string {
  const file = error.VITEST_TEST_PATH === undefined ? 'no file' : relative(root, error.VITEST_TEST_PATH);
  return `${file}: ${error.stack ?? error.message}`;
}
