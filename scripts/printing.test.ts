/** The lint rule of scripts/printing.grit, as `npm run check` applies it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
let folder: string;

beforeAll(() => {
  // Inside the repository, so that the linter uses its settings.
  folder = mkdtempSync(join(root, 'cli/printing-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Whether the linter accepts a module with this content. */
function isTaken(source: string, name = 'printing.ts'): boolean {
  const file = join(folder, name);
  writeFileSync(file, source);
  try {
    execFileSync(join(root, 'node_modules/.bin/biome'), ['lint', file], { cwd: root, stdio: 'pipe' });
    return true;
  } catch (error) {
    expect(String((error as { stderr: Buffer }).stderr)).toContain('lib/daemon/terminal.ts');
    return false;
  }
}

test.each([
  "console.log('hello');\n",
  "console.error('hello');\n",
  "console?.warn('hello');\n",
  "globalThis.console.log('hello');\n",
  'export const say = console.log;\n',
  'export const writer = console;\n',
  "process.stdout.write('hello');\n",
  "process.stderr.write('hello');\n",
  "process['stdout'].write('hello');\n",
  "const { stdout } = process;\nstdout.write('hello');\n",
])('a new way to the terminal is refused: %j', (source) => {
  expect(isTaken(source)).toBe(false);
});

test("the terminal's own functions are taken, and tests may print", () => {
  const terminal = '../../lib/daemon/terminal.ts';
  expect(isTaken(`import { print } from '${terminal}';\n\nprint('hello');\n`)).toBe(true);
  expect(isTaken("console.log('hello');\n", 'printing.test.ts')).toBe(true);
});
