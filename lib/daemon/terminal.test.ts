/** What reaches a terminal's file descriptor, byte by byte, through each function of the module. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const terminal = join(import.meta.dirname, 'terminal.ts');
const errors = join(import.meta.dirname, '../protocol/errors.ts');
/** Clears the screen, sets the title and the clipboard, goes up a line, turns the direction round, begins a new line. */
const HOSTILE = '\u001b[2J\u001b]0;x\u0007\u009b1A\u202e\u200b\r\nok  signed \u007f';

function run(code: string): { stdout: Buffer; stderr: Buffer } {
  const program = `import * as t from ${JSON.stringify(terminal)};
import { DstackError } from ${JSON.stringify(errors)};
const hostile = ${JSON.stringify(HOSTILE)};
${code}`;
  const { stdout, stderr, status } = spawnSync(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    '--input-type=module-typescript',
    '-e',
    program,
  ]);
  expect(status).toBe(0);
  return { stdout, stderr };
}

test('a hostile text is one line of printable characters, whichever function prints it', () => {
  const { stdout, stderr } = run(`
t.print(hostile, hostile);
t.print();
t.printJson({ hostile });
t.printJson({ hostile }, 2);
t.logLines.write(JSON.stringify({ hostile }) + '\\n');
t.printError(hostile);
t.printFailure('dstack', new DstackError('X', hostile, { details: [hostile, hostile] }));
t.printFailure('dstack', new Error(hostile));
t.printFailure(hostile, hostile);
t.printFailure('dstack', Object.assign(new Error(hostile), { syscall: 'open', code: 'ENOENT' }));`);
  const printed = `${stdout.toString('utf8')}${stderr.toString('utf8')}`;
  expect(printed.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  expect(stdout.toString('utf8').split('\n')).toHaveLength(9);
  expect(printed).not.toMatch(/^ok {2}signed/m);
  const [, , , json] = stdout.toString('utf8').split('\n');
  expect(JSON.parse(json!)).toEqual({ hostile: HOSTILE });
});

test("an error's details stand below it, and can not pass for a line of their own", () => {
  const { stderr } = run(
    `t.printFailure('dstack', new DstackError('VM_ENDED', 'it ended', { details: ['a', 'dstack: OK'] }));`,
  );
  expect(stderr.toString('utf8')).toBe('dstack: VM_ENDED: it ended\n  | a\n  | dstack: OK\n');
});

test('a command that there is not is named in printable characters', () => {
  const main = join(import.meta.dirname, '../../cli/main.ts');
  const { stderr, status } = spawnSync(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    main,
    HOSTILE,
  ]);
  expect(status).toBe(2);
  expect(stderr.toString('utf8').replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});

describe('a reader that ends first', () => {
  /** Runs a program whose reader takes one line and goes; its exit code and what it wrote on standard error. */
  async function readOnce(code: string): Promise<{ status: number | null; stderr: string }> {
    const program = `import * as t from ${JSON.stringify(terminal)};
t.outliveReaders();
${code}`;
    const child = spawn(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      '--input-type=module-typescript',
      '-e',
      program,
    ]);
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const [status] = await once(child, 'exit');
    return { status, stderr };
  }
  const FLOOD = `const more = () => { for (let n = 0; n < 100; n += 1) t.print('x'.repeat(10_000)); };`;

  test('does not end what was begun', async () => {
    const { status, stderr } = await readOnce(`${FLOOD}
t.print('first');
for (let n = 0; n < 20; n += 1) { more(); await new Promise((resolve) => setTimeout(resolve, 20)); }
t.printError('done');`);
    expect([status, stderr]).toEqual([0, 'done\n']);
  });

  test('ends what runs until it is told to end, in order', async () => {
    const { status, stderr } = await readOnce(`${FLOOD}
process.on('SIGTERM', () => { t.printError('in order'); process.exit(0); });
t.print('first');
let rounds = 0;
setInterval(() => { if ((rounds += 1) > 300) process.exit(7); more(); }, 20);`);
    expect([status, stderr]).toEqual([0, 'in order\n']);
  });
});

test('a disk that is full is an error all the same', () => {
  const program = `import * as t from ${JSON.stringify(terminal)};
t.outliveReaders();
process.on('uncaughtException', (error) => { t.printFailure('dstack', error); process.exit(1); });
t.print('x');
setTimeout(() => {}, 1000);`;
  const full = openSync('/dev/full', 'w');
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '-e', program],
    { stdio: ['ignore', full, 'pipe'] },
  );
  closeSync(full);
  expect([status, String(stderr)]).toEqual([1, expect.stringContaining('ENOSPC')]);
});
