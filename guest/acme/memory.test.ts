import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Memory, namesHash } from './memory.ts';

let root: string;
let folders: [disk: string, here: string];
let problems: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-memory-'));
  folders = [join(root, 'disk'), join(root, 'here')];
  problems = [];
  mkdirSync(folders[1]);
});
afterEach(() => rmSync(root, { recursive: true }));
const open = () => new Memory(folders, (problem) => problems.push(problem));
const fileIn = (folder: string) => join(folder, 'site.json');
const names = namesHash(['site.example']);

test('it is on the disk as soon as there is one, and closed to others', () => {
  const memory = open();
  memory.save({ ...memory.value, orders: [{ names, at: 1 }] });
  expect(open().value).toEqual(memory.value);
  mkdirSync(folders[0]);
  memory.save({ ...memory.value, orders: [{ names, at: 2 }] });
  rmSync(folders[1], { recursive: true });
  expect(open().value).toEqual(memory.value);
  expect(open().value.node).toMatch(/^[0-9a-f]{32}$/);
});

test('where the disk cannot be written to, the next place takes it, and knows more afterwards', () => {
  mkdirSync(folders[0]);
  const memory = open();
  memory.save({ ...memory.value, orders: [{ names, at: 1 }] });
  // A folder in the file's place, which nothing can be renamed over.
  const { node } = memory.value;
  const kept = readFileSync(fileIn(folders[0]));
  rmSync(fileIn(folders[0]));
  mkdirSync(join(fileIn(folders[0]), 'full'), { recursive: true });
  memory.save({ ...memory.value, orders: [{ names, at: 2 }] });
  rmSync(fileIn(folders[0]), { recursive: true });
  writeFileSync(fileIn(folders[0]), kept);
  expect(open().value).toEqual({ version: 1, node, orders: [{ names, at: 2 }] });
});

test.each([
  ['garbage', 'garbage'],
  ['a field more', JSON.stringify({ version: 1, node: '00'.repeat(16), orders: [], more: 1 })],
  ['a key twice', `{"version":1,"version":1,"node":"${'00'.repeat(16)}","orders":[]}`],
  ['too much', ' '.repeat(70_000)],
])('%s is left out of account, and said', (_, text) => {
  writeFileSync(fileIn(folders[1]), text);
  expect(open().value.orders).toEqual([]);
  expect(problems).toHaveLength(1);
});

test('without a place nothing is kept, and that is an error', () => {
  rmSync(folders[1], { recursive: true });
  expect(() => open().save(open().value)).toThrowError(expect.objectContaining({ code: 'ACME_MEMORY' }));
});
