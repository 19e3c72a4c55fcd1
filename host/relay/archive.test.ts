import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { someAnswer, someRequest } from '../gossip/gossip.fixture.ts';
import { Archive, archiveIn } from './archive.ts';

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return { ...fs, readdirSync: vi.fn(fs.readdirSync) };
});

const scratch = mkdtempSync(join(tmpdir(), 'archive-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const nameOf = (n: number): string => `answer-${n.toString(16).padStart(64, '0')}-${'0'.repeat(16)}.json`;

test('who lists it again and again has the folder read once', () => {
  const folder = join(scratch, 'listed');
  const archive = new Archive(folder);
  for (let n = 0; n < 20; n += 1) writeFileSync(join(folder, nameOf(n)), '{}');
  vi.mocked(readdirSync).mockClear();
  for (let n = 0; n < 500; n += 1)
    expect(archive.list(nameOf(9), 5)).toEqual([10, 11, 12, 13, 14].map(nameOf));
  expect(archive.list()).toHaveLength(20);
  expect(vi.mocked(readdirSync).mock.calls.length).toBeLessThanOrEqual(1);
});

test('what is added is listed at once, by this process or by another', () => {
  const folder = join(scratch, 'added');
  const archive = new Archive(folder);
  expect(archive.list()).toEqual([]);
  for (let n = 0; n < 20; n += 1) {
    archive.keep(someAnswer(parseHex(n.toString(16).padStart(64, '0'))));
    expect(archive.list()).toHaveLength(n + 1);
  }
  writeFileSync(join(folder, nameOf(99)), '{}');
  expect(archive.list()).toContain(nameOf(99));
  archive.keep(someRequest(1));
  expect(archive.list()).toHaveLength(22);
});

test('an answer is kept once, however its addresses are written', () => {
  const archive = new Archive(join(scratch, 'case'));
  const answer = { ...someAnswer(parseHex('ab'.repeat(32))), contract: parseAddress(`0x${'ab'.repeat(20)}`) };
  const path = archive.keep(answer);
  expect(archive.keep({ ...answer, contract: parseAddress(`0x${'aB'.repeat(20)}`) })).toBe(path);
  expect(archive.list()).toHaveLength(1);
});

test('what an earlier release kept under another name is taken over', () => {
  const stateDir = join(scratch, 'state');
  mkdirSync(join(stateDir, 'records'), { recursive: true });
  writeFileSync(join(stateDir, 'records', nameOf(1)), '{}');
  for (const archive of [archiveIn(stateDir), archiveIn(stateDir)])
    expect(archive.list()).toEqual([nameOf(1)]);
  expect(existsSync(join(stateDir, 'records'))).toBe(false);
  expect(archiveIn(join(scratch, 'new')).list()).toEqual([]);
});

test('a part of a file is given by its name, and no name leads out of the folder', () => {
  const archive = new Archive(join(scratch, 'parts', 'inner'));
  writeFileSync(join(scratch, 'parts', 'secret'), 'a secret');
  writeFileSync(join(archive.directory, nameOf(1)), '0123456789');
  const textOf = (...part: Parameters<Archive['part']>) => {
    const found = archive.part(...part);
    return found && [found.length, Buffer.from(found.bytes).toString()];
  };
  expect(textOf(nameOf(1), 0, 4)).toEqual([10, '0123']);
  expect(textOf(nameOf(1), 8, 4)).toEqual([10, '89']);
  expect(textOf(nameOf(1), 10, 4)).toEqual([10, '']);
  expect(textOf(nameOf(1), 99, 4)).toEqual([10, '']);
  for (const name of ['../secret', nameOf(2), `${nameOf(1)}/../../secret`])
    expect(textOf(name, 0, 4)).toBeUndefined();
  expect(archive.has(nameOf(1))).toBe(true);
  expect(archive.has('../secret')).toBe(false);
});
