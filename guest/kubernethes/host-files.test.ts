import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { loadBudget, notStalled, openHostArchive, readHostFile } from './host-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-host-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

writeFileSync(at('small'), 'content');
writeFileSync(at('big'), '');
truncateSync(at('big'), 10_000_000);
symlinkSync(at('small'), at('link'));
execFileSync('mkfifo', [at('fifo')]);

test('reads a regular file, and of an archive no more than it had when it was opened', async () => {
  expect(Buffer.from(await readHostFile(at('small'), 'MANIFEST', 7)).toString()).toBe('content');
  const archive = await openHostArchive(at('small'), 7);
  expect(archive.size).toBe(7);
  appendFileSync(at('small'), ' and more');
  const buffer = Buffer.alloc(20);
  expect(await archive.read(buffer, 0, 20, 4)).toHaveProperty('bytesRead', 3);
  expect(buffer.toString('latin1', 0, 4)).toBe('ent\0');
  expect(await archive.read(buffer, 0, 20, 10)).toHaveProperty('bytesRead', 0);
  await archive.close();
});

test.each([
  ['gone', 'MISSING'],
  ['small/x', 'MISSING'],
  ['link', 'NOT_REGULAR'],
  ['fifo', 'NOT_REGULAR'],
  ['.', 'NOT_REGULAR'],
  ['big', 'TOO_LARGE'],
])('refuses %s', async (name, why) => {
  expect(await code(readHostFile(at(name), 'MANIFEST', 1000))).toBe(`MANIFEST_${why}`);
  expect(await code(readHostFile(at(name), 'SECRET', 1000))).toBe(`SECRET_${why}`);
  expect(await code(openHostArchive(at(name), 1000))).toBe(`ARCHIVE_${why}`);
});

test('refuses a file that is larger than it said', async () => {
  // Files in /proc report a size of zero, like a file that grows after its size was read.
  expect(await code(readHostFile('/proc/kallsyms', 'MANIFEST', 1000))).toBe('MANIFEST_TOO_LARGE');
  const archive = await openHostArchive('/proc/kallsyms', 1000);
  expect(await archive.read(Buffer.alloc(10), 0, 10, 0)).toHaveProperty('bytesRead', 0);
  await archive.close();
});

test('the budget is what memory and the file system have, less some for all else', async () => {
  writeFileSync(at('meminfo'), 'MemTotal: 1 kB\nMemAvailable:     1064960 kB\n');
  expect(await loadBudget(at('meminfo'), folder)).toBe((1040 - 64) * 2 ** 20);
  expect(await loadBudget(at('meminfo'), folder, 2 ** 20)).toBe((1040 - 65) * 2 ** 20);
  // A file system without room.
  expect(await loadBudget(at('meminfo'), '/proc')).toBe(0);
  writeFileSync(at('meminfo'), 'MemAvailable:     1024 kB\n');
  expect(await loadBudget(at('meminfo'), folder)).toBe(0);
});

test('a read that does not come is given up, and its file is not read again until it has', async () => {
  const path = join(folder, 'stalled');
  writeFileSync(path, 'some bytes');
  const read = Promise.withResolvers<string>();
  await expect(notStalled(read.promise, 'ARCHIVE', path, 50)).rejects.toMatchObject({
    code: 'ARCHIVE_STALLED',
  });
  expect(await code(openHostArchive(path, 100))).toBe('ARCHIVE_STALLED');
  expect(await code(readHostFile(path, 'MANIFEST', 100))).toBe('MANIFEST_STALLED');
  expect(await code(readHostFile(path, 'SECRET', 100))).toBe('SECRET_STALLED');
  read.resolve('late');
  await read.promise;
  expect(await code(openHostArchive(path, 100))).toBe('accepted');
  expect(await notStalled(Promise.resolve('in time'), 'ARCHIVE', path, 50)).toBe('in time');
});
