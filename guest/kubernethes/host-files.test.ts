import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { copyBudget, copyHostFile, readHostFile } from './host-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-host-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

writeFileSync(at('small'), 'content');
writeFileSync(at('big'), '');
truncateSync(at('big'), 10_000_000);
symlinkSync(at('small'), at('link'));
execFileSync('mkfifo', [at('fifo')]);

test('reads and copies a regular file', async () => {
  expect(Buffer.from(await readHostFile(at('small'), 7)).toString()).toBe('content');
  const copy = await copyHostFile(at('small'), at('copy'), 7);
  writeFileSync(at('small'), 'changed');
  expect(copy.size).toBe(7);
  expect((await copy.file.read(Buffer.alloc(7), 0, 7, 0)).buffer.toString()).toBe('content');
  await copy.dispose();
  expect(readdirSync(folder)).not.toContain('copy');
});

test.each([
  ['gone', 'MISSING'],
  ['small/x', 'MISSING'],
  ['link', 'NOT_REGULAR'],
  ['fifo', 'NOT_REGULAR'],
  ['.', 'NOT_REGULAR'],
  ['big', 'TOO_LARGE'],
])('refuses %s', async (name, why) => {
  expect(await code(readHostFile(at(name), 1000))).toBe(`MANIFEST_${why}`);
  expect(await code(copyHostFile(at(name), at('copy'), 1000))).toBe(`ARCHIVE_${why}`);
  expect(readdirSync(folder)).not.toContain('copy');
});

test('refuses a file that is larger than it said', async () => {
  // Files in /proc report a size of zero, like a file that grows after its size was read.
  expect(await code(readHostFile('/proc/kallsyms', 1000))).toBe('MANIFEST_TOO_LARGE');
  expect(await code(copyHostFile('/proc/kallsyms', at('copy'), 1000))).toBe('ARCHIVE_TOO_LARGE');
  expect(readdirSync(folder)).not.toContain('copy');
});

test('the budget leaves room to unpack', async () => {
  writeFileSync(at('meminfo'), 'MemTotal: 1 kB\nMemAvailable:     1064960 kB\n');
  expect(await copyBudget(at('meminfo'), 1e12)).toBe(((1040 - 64) * 2 ** 20) / 2);
  expect(await copyBudget(at('meminfo'), 5)).toBe(5);
  writeFileSync(at('meminfo'), 'MemAvailable:     1024 kB\n');
  expect(await copyBudget(at('meminfo'), 5)).toBe(0);
});
