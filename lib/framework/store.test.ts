import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from 'typebox';
import { afterAll, expect, test } from 'vitest';
import { openStore, Table, VALUE_MAX_BYTES } from './store.ts';

const scratch = mkdtempSync(join(tmpdir(), 'store-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
let files = 0;
const newPath = (): string => join(scratch, `${files++}`, 'store.sqlite');

test('what was written is there after the store was opened again, and only its owner may read the file', () => {
  const path = newPath();
  const store = openStore(path);
  store.put('a/1', 'x');
  store.put('a/1', 'y');
  store.put('a/2', 'z');
  store.delete('a/2');
  store.close();
  const again = openStore(path);
  expect(again.get('a/1')).toBe('y');
  expect(again.get('a/2')).toBeUndefined();
  again.close();
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('what was written survives a process that never closed it', () => {
  const path = newPath();
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const program = `
    import { openStore } from ${JSON.stringify(join(import.meta.dirname, 'store.ts'))};
    openStore(${JSON.stringify(path)}).batch([{ kind: 'put', key: 'a', value: '1' }, { kind: 'put', key: 'b', value: '2' }]);
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program]);
  expect(signal).toBe('SIGKILL');
  const store = openStore(path);
  expect(store.list('')).toEqual([
    { key: 'a', value: '1' },
    { key: 'b', value: '2' },
  ]);
  store.close();
});

test('a batch is all or nothing', () => {
  const store = openStore(':memory:');
  store.put('a', 'before');
  expect(() =>
    store.batch([
      { kind: 'put', key: 'a', value: 'after' },
      // SQLite refuses it while the batch is under way.
      { kind: 'put', key: 'b', value: undefined as unknown as string },
    ]),
  ).toThrow();
  expect(store.get('a')).toBe('before');
  store.put('c', 'usable');
  expect(store.count('')).toBe(2);
});

test('lists by prefix, in order, in pages', () => {
  const store = openStore(':memory:');
  for (const key of ['b/2', 'a/1', 'b/1', 'b/3', 'c/1', 'b']) store.put(key, key);
  expect(store.list('b/').map(({ key }) => key)).toEqual(['b/1', 'b/2', 'b/3']);
  expect(store.list('b/', { after: 'b/1', limit: 1 }).map(({ key }) => key)).toEqual(['b/2']);
  expect(store.count('b/')).toBe(3);
  expect(store.count('x')).toBe(0);
});

test('keys and values are bounded', () => {
  const store = openStore(':memory:');
  for (const key of ['', 'a b', 'ä', 'x'.repeat(513), 'a\n']) {
    expect(() => store.put(key, ''), JSON.stringify(key)).toThrowError(
      expect.objectContaining({ code: 'STORE_KEY' }),
    );
  }
  expect(() => store.put('a', 'x'.repeat(VALUE_MAX_BYTES + 1))).toThrowError(
    expect.objectContaining({ code: 'STORE_VALUE' }),
  );
});

test('a second opener, and a file that is not a store, are refused', () => {
  const path = newPath();
  const store = openStore(path);
  expect(() => openStore(path)).toThrowError(expect.objectContaining({ code: 'STORE_OPEN' }));
  store.close();
  writeFileSync(path, 'not a database, but long enough to be taken for one'.repeat(40));
  expect(() => openStore(path)).toThrowError(expect.objectContaining({ code: 'STORE_OPEN' }));
});

test('a table refuses what does not have its form', () => {
  const store = openStore(':memory:');
  const table = new Table(store, 't/', Type.Object({ n: Type.Number() }));
  table.put('1', { n: 1 });
  expect(table.list()).toEqual([{ id: '1', value: { n: 1 } }]);
  for (const text of ['{"n":"1"}', '{', 'null']) {
    store.put('t/1', text);
    expect(() => table.get('1')).toThrowError(expect.objectContaining({ code: 'STORE_CORRUPT' }));
  }
});
