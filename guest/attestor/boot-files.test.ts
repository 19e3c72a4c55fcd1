import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { takeBootFile } from './boot-files.ts';

let directory: string;
let source: string;
let target: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-boot-'));
  source = join(directory, 'network.json');
  target = join(directory, 'run/network.json');
});

const take = async (optional = false) =>
  Buffer.from(await takeBootFile({ source, target, optional })).toString();

test('the first read of a boot counts; what the host writes later does not', async () => {
  writeFileSync(source, 'first');
  expect(await take()).toBe('first');
  expect(readFileSync(target, 'utf8')).toBe('first');
  expect(statSync(target).mode & 0o777).toBe(0o644);
  writeFileSync(source, 'second');
  expect(await take()).toBe('first');
  rmSync(source);
  expect(await take()).toBe('first');
});

test('a missing file is an error, or {} where it is optional, and stays so', async () => {
  await expect(take()).rejects.toMatchObject({ code: 'BOOT_FILE_MISSING' });
  expect(await take(true)).toBe('{}');
  writeFileSync(source, '{"role":"bootstrap"}');
  expect(await take(true)).toBe('{}');
});

test.each<[string, () => void]>([
  [
    'a symbolic link',
    () => {
      writeFileSync(join(directory, 'elsewhere'), 'secret');
      symlinkSync(join(directory, 'elsewhere'), source);
    },
  ],
  ['a dangling symbolic link', () => symlinkSync(join(directory, 'nowhere'), source)],
  ['a directory', () => mkdirSync(source)],
  ['a FIFO, which must not block', () => execFileSync('mkfifo', [source])],
  ['a symbolic link to a device', () => symlinkSync('/dev/zero', source)],
  ['more than 64 KiB', () => writeFileSync(source, Buffer.alloc(65_537))],
])('%s is refused, optional or not, and nothing is frozen', async (_, make) => {
  make();
  await expect(take()).rejects.toMatchObject({ code: 'BOOT_FILE_INVALID' });
  await expect(take(true)).rejects.toMatchObject({ code: 'BOOT_FILE_INVALID' });
  expect(() => statSync(target)).toThrow('ENOENT');
});

test('exactly 64 KiB is taken whole', async () => {
  writeFileSync(source, Buffer.alloc(65_536, 'x'));
  expect(await take()).toHaveLength(65_536);
});

test('a half-written draft of an earlier daemon is not what is used', async () => {
  mkdirSync(join(directory, 'run'));
  writeFileSync(`${target}.draft`, 'ha');
  writeFileSync(source, 'whole');
  expect(await take()).toBe('whole');
});
