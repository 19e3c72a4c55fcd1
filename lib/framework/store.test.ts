import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Type } from 'typebox';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { openStore, type Store, Table, VALUE_MAX_BYTES } from './store.ts';

const scratch = mkdtempSync(join(tmpdir(), 'store-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
afterEach(() => void vi.restoreAllMocks());
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

/** A store that tells how many rows SQLite has looked at: each SELECT is given a first condition that counts, and holds. */
function countingStore(): { store: Store; rows: () => number } {
  let rows = 0;
  const { prepare } = DatabaseSync.prototype;
  vi.spyOn(DatabaseSync.prototype, 'prepare').mockImplementation(function (this: DatabaseSync, sql, ...rest) {
    const looked = () => {
      rows += 1;
      return 1;
    };
    this.function('looked', { varargs: true }, looked);
    const counting = sql.startsWith('SELECT') ? sql.replace('WHERE', 'WHERE looked(key) AND') : sql;
    return prepare.call(this, counting, ...rest);
  });
  const store = openStore(':memory:');
  return {
    store,
    rows: () => {
      const counted = rows;
      rows = 0;
      return counted;
    },
  };
}
const many = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, n) => ({
    kind: 'put' as const,
    key: `${prefix}${String(n).padStart(6, '0')}`,
    value: 'x',
  }));

test('a list reads its own rows, however many are before them', () => {
  const { store, rows } = countingStore();
  store.batch([...many('a/', 3000), ...many('b/', 5)]);
  rows();
  expect(store.list('b/')).toHaveLength(5);
  expect(rows()).toBe(5);
  expect(store.list('b/', { after: 'a/000001' })).toHaveLength(5);
  expect(rows()).toBe(5);
  expect(store.list('b/', { after: 'b/000001' })).toHaveLength(3);
  expect(rows()).toBe(3);
});

test('a count is kept: it is right after every kind of write, and reads the rows once', () => {
  const { store, rows } = countingStore();
  store.batch(many('a/', 3000));
  expect([store.count('a/'), store.count('a/0029')]).toEqual([3000, 100]);
  rows();
  store.put('a/000001', 'another value');
  store.put('a/x', 'new');
  store.put('b/x', 'elsewhere');
  store.delete('a/002999');
  store.delete('a/002999');
  store.batch([
    { kind: 'put', key: 'a/y', value: '' },
    { kind: 'delete', key: 'a/y' },
    { kind: 'delete', key: 'a/002998' },
  ]);
  expect([store.count('a/'), store.count('a/0029')]).toEqual([2999, 98]);
  expect(rows()).toBe(0);
  const refused = { kind: 'put', key: 'a/z', value: undefined as unknown as string } as const;
  expect(() => store.batch([{ kind: 'put', key: 'a/w', value: '' }, refused])).toThrow();
  expect(store.count('a/')).toBe(2999);
});

test('counts of many prefixes are all right, though only some are kept', () => {
  const { store } = countingStore();
  const counts = () => Array.from({ length: 100 }, (_, n) => store.count(`p${n}/`));
  for (let n = 0; n < 100; n += 1) store.batch(many(`p${n}/`, n));
  expect(counts()).toEqual(Array.from({ length: 100 }, (_, n) => n));
  for (let n = 0; n < 100; n += 1) store.put(`p${n}/x`, '');
  expect(counts()).toEqual(Array.from({ length: 100 }, (_, n) => n + 1));
});
