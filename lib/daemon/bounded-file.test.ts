/** Files that others name. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readBounded } from './bounded-file.ts';
import { makeFolder } from './folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-bounded-'));
afterAll(() => rmSync(folder, { recursive: true }));
const refusal = (code: string) => expect.objectContaining({ code });
const at = (name: string): string => join(folder, name);

test('a file is read up to its bound, and not beyond', () => {
  writeFileSync(at('ten'), '0123456789');
  expect(readBounded(at('ten'), { maxBytes: 10 }).toString()).toBe('0123456789');
  expect(() => readBounded(at('ten'), { maxBytes: 9 })).toThrowError(refusal('FILE_TOO_LARGE'));
  // It says that it has no bytes.
  expect(readBounded('/proc/self/status', { maxBytes: 100_000 }).toString()).toContain('Name:');
  expect(() => readBounded('/proc/self/status', { maxBytes: 10 })).toThrowError(refusal('FILE_TOO_LARGE'));
  expect(() => readBounded(at('none'), { maxBytes: 9 })).toThrowError(/ENOENT/);
});

test('what is no file is refused, and never waited for', () => {
  symlinkSync('/dev/zero', at('link'));
  execFileSync('mkfifo', [at('fifo')]);
  for (const path of [folder, '/dev/zero', at('link'), at('fifo')])
    expect(() => readBounded(path, { maxBytes: 9 })).toThrowError(refusal('FILE_KIND'));
  for (const path of [folder, '/dev/zero'])
    expect(() => readBounded(path, { maxBytes: 9, pipes: true })).toThrowError(refusal('FILE_KIND'));
});

test('a pipe will do where somebody typed its name', () => {
  const script = `import { readBounded } from ${JSON.stringify(join(import.meta.dirname, 'bounded-file.ts'))};
    process.stdout.write(readBounded('/dev/stdin', { maxBytes: 20, pipes: true }));`;
  const args = ['-c', 'printf "through a pipe" | "$0" --input-type=module -e "$1"', process.execPath, script];
  expect(execFileSync('sh', args).toString()).toBe('through a pipe');
});

test('folders are made with those above them', () => {
  makeFolder(at('a/b/c'), 0o700);
  makeFolder(at('a/b/c'));
  mkdirSync(at('a/b/c/d'));
  for (const path of [at('ten/x'), at('ten')]) expect(() => makeFolder(path)).toThrowError(refusal('FOLDER'));
  // Node's own does not return.
  expect(() => makeFolder('/proc/dstack/x')).toThrowError(/ENOENT/);
});
