import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { codeOf } from '../protocol/errors.ts';
import { makePrivate, readPrivate } from './private-file.ts';

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-private-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const codeFrom = (path: string): string => {
  try {
    return readPrivate(path);
  } catch (error) {
    return codeOf(error);
  }
};

test('the first key stays, whoever comes after it, and nothing is left beside it', () => {
  const folder = freshFolder();
  const path = join(folder, 'key');
  const umask = process.umask(0);
  try {
    expect([makePrivate(path, 'first'), makePrivate(path, 'second')]).toEqual([true, false]);
  } finally {
    process.umask(umask);
  }
  expect([readPrivate(path), statSync(path).mode & 0o777, readdirSync(folder)]).toEqual([
    'first',
    0o600,
    ['key'],
  ]);
});

test('what others can read, a folder, or something too large is no key', () => {
  const folder = freshFolder();
  const path = join(folder, 'key');
  makePrivate(path, 'k'.repeat(4_097));
  expect(codeFrom(path)).toBe('KEY_FILE');
  for (const mode of [0o604, 0o640, 0o610]) {
    chmodSync(path, mode);
    expect(codeFrom(path), mode.toString(8)).toBe('KEY_FILE');
  }
  expect(readFileSync(path, 'utf8')).toHaveLength(4_097);
  mkdirSync(join(folder, 'folder'), { mode: 0o700 });
  expect(codeFrom(join(folder, 'folder'))).toBe('KEY_FILE');
});
