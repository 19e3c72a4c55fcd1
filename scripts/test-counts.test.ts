import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

// A name that is no literal: there are no types of it.
const { tally } = await import(join(import.meta.dirname, 'test-counts.mjs'));

const passed = { name: 'a.test.ts', passed: 2, failed: 0, skipped: 1, said: [] };
const failed = { name: 'b.test.ts', passed: 1, failed: 1, skipped: 0, said: ['FAILED b.test.ts: x'] };
const again = { ...failed, passed: 2, failed: 0, said: [] };
const first = { status: 1, files: [passed, failed], unhandled: [] };
const second = { status: 0, files: [again], unhandled: [] };
const stray = 'b.test.ts: Error: stray\n    at it';
const strayNote = 'FAILED processes: outside of any test\n  b.test.ts: Error: stray\n      at it';

test('a file that passes when it is run once more counts as that, and is named', () => {
  expect(tally('processes', first, undefined)).toEqual({
    ...{ passed: 3, failed: 1, skipped: 1 },
    notes: ['FAILED b.test.ts: x'],
  });
  expect(tally('processes', first, second)).toEqual({
    ...{ passed: 4, failed: 0, skipped: 1 },
    notes: ['UNSTEADY, passed when run once more: b.test.ts: x'],
  });
});

test.each([
  ['first', { ...first, unhandled: [stray] }, second],
  ['second', first, { ...second, status: 1, unhandled: [stray] }],
  ['same in both', { ...first, unhandled: [stray] }, { ...second, status: 1, unhandled: [stray] }],
  ['only', { status: 1, files: [passed, again], unhandled: [stray] }, undefined],
])('an error outside of any test fails the %s run', (_, one, other) => {
  const counts = tally('processes', one, other);
  expect(counts).toMatchObject({ passed: 4, failed: 1 });
  expect(counts.notes).toContain(strayNote);
});

test('a runner that fails and does not say why is a failure', () => {
  expect(tally('vm', { status: null, files: [], unhandled: [] }, undefined)).toEqual({
    ...{ passed: 0, failed: 1, skipped: 0 },
    notes: ['FAILED vm: the runner ended with status null'],
  });
});

test('the reporter writes what went wrong outside of any test', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-unhandled-'));
  try {
    const body =
      "void Promise.reject(new Error('stray')); await new Promise((resolve) => setTimeout(resolve, 50));";
    writeFileSync(join(folder, 'a.test.js'), `test('passes', async () => { ${body} });`);
    writeFileSync(join(folder, 'b.test.js'), "test('passes', () => {});");
    const run = (file: string) => {
      const written = join(folder, 'unhandled.json');
      const program = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
      const reporter = join(import.meta.dirname, 'unhandled-reporter.ts');
      const { status, stderr } = spawnSync(
        process.execPath,
        [
          ...[program, 'run', '--root', folder, '--globals', `--reporter=${reporter}`],
          ...[`--outputFile.unhandled=${written}`, file],
        ],
        { encoding: 'utf8' },
      );
      return { status, stderr, errors: JSON.parse(readFileSync(written, 'utf8')) };
    };
    expect(run('a.test.js')).toMatchObject({
      status: 1,
      errors: [expect.stringMatching(/^a\.test\.js: Error: stray\n {4}at /)],
    });
    expect(run('b.test.js')).toMatchObject({ status: 0, errors: [] });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
