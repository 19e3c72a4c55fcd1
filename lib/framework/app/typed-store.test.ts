/** The same behaviour on each backing. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from 'typebox';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Etcd, startEtcd } from '../../../test/support/etcd.ts';
import { codeOf } from '../../protocol/errors.ts';
import { etcdBacking } from './etcd-backing.ts';
import { type Backing, fileBacking, memoryBacking, Tables } from './typed-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-typed-'));
let etcd: Etcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  await etcd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const backings: [string, (name: string) => Backing][] = [
  ['memory', () => memoryBacking()],
  ['file', (name) => fileBacking(join(folder, name))],
  ['etcd', (name) => etcdBacking({ endpoints: [`unix://${etcd.socket}`] }, `${name}/`)],
];
const Note = Type.Object({ text: Type.String({ maxLength: 10 }) });
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'done', codeOf);

test.each(backings)('values of one type by keys of one type: %s', async (_, open) => {
  const tables = new Tables(open('values'));
  const notes = tables.strings('notes', Note);
  expect(await notes.get('a')).toBeUndefined();
  await notes.set('a', { text: 'one' });
  await notes.set('ü / \0', { text: 'two' });
  await notes.set('a', { text: 'three' });
  expect(await notes.get('a')).toEqual({ text: 'three' });
  expect(await notes.entries()).toEqual([
    { key: 'a', value: { text: 'three' } },
    { key: 'ü / \0', value: { text: 'two' } },
  ]);
  await notes.delete('a');
  expect((await notes.entries()).map(({ key }) => key)).toEqual(['ü / \0']);
  const numbers = tables.numbers('numbers', Type.Integer());
  for (const key of [10, 9, 100]) await numbers.set(key, key);
  expect((await numbers.entries()).map(({ key }) => key)).toEqual([9, 10, 100]);
  expect((await numbers.entries({ after: 9, limit: 1 })).map(({ key }) => key)).toEqual([10]);
  await tables.close();
});

test.each(backings)('what has another form is neither written nor believed: %s', async (_, open) => {
  const backing = open('forms');
  const tables = new Tables(backing);
  const notes = tables.strings('notes', Note);
  expect(await code(notes.set('a', { text: 'x'.repeat(11) }))).toBe('STORE_VALUE');
  expect(await code(notes.set('a', undefined as never))).toBe('STORE_VALUE');
  await backing.put(`notes/${Buffer.from('a').toString('hex')}`, '{"text":7}');
  expect(await code(notes.get('a'))).toBe('STORE_CORRUPT');
  expect(await code(tables.numbers('n', Type.Integer()).set(-1, 1))).toBe('STORE_KEY');
  expect(() => tables.strings('a/b', Note)).toThrow(/no name/);
  await tables.close();
});

test.each(backings)('a key is a text of its own, and as long as every backing takes: %s', async (_, open) => {
  const tables = new Tables(open('keys'));
  const notes = tables.strings('notes', Type.Integer());
  await notes.set('\ufffd', 1);
  // Halves of a pair: as UTF-8 they would all be the key above.
  for (const key of ['\ud800', 'a\udfff']) {
    expect(await code(notes.get(key))).toBe('STORE_KEY');
    expect(await code(notes.set(key, 2))).toBe('STORE_KEY');
    expect(await code(notes.delete(key))).toBe('STORE_KEY');
  }
  expect(await notes.get('\ufffd')).toBe(1);
  const long = 'x'.repeat(192);
  await notes.set(long, 3);
  expect(await notes.get(long)).toBe(3);
  expect(await code(notes.set(`${long}x`, 4))).toBe('STORE_KEY');
  expect(await code(notes.get('ü'.repeat(97)))).toBe('STORE_KEY');
  expect(await code(notes.set(5 as never, 4))).toBe('STORE_KEY');
  expect(() => tables.numbers('notes', Type.Integer())).toThrow(/store of strings/);
  for (const limit of [0, -1, 1.5, Number.NaN, 1001])
    expect(await code(notes.entries({ limit }))).toBe('STORE_LIMIT');
  await tables.close();
});

test.each(backings)(
  'large values are listed like small ones, and what is no JSON is not stored: %s',
  async (_, open) => {
    const tables = new Tables(open('large'));
    const texts = tables.strings('texts', Type.Any());
    const large = 'y'.repeat(1024 * 1024 - 10);
    for (let at = 0; at < 9; at += 1) await texts.set(`k${at}`, large);
    const rows = await texts.entries({ limit: 8 });
    expect(rows.map(({ key }) => key).join()).toBe('k0,k1,k2,k3,k4,k5,k6,k7');
    expect(rows.every(({ value }) => value === large)).toBe(true);
    expect(await texts.entries({ after: 'k6' })).toHaveLength(2);
    const itself: Record<string, unknown> = {};
    itself.itself = itself;
    for (const value of [1n, itself]) expect(await code(texts.set('no', value))).toBe('STORE_VALUE');
    await tables.close();
  },
);

test('what lies in a file is there again', async () => {
  const path = join(folder, 'again');
  const first = new Tables(fileBacking(path));
  await first.numbers('n', Type.String()).set(1, 'one');
  await first.close();
  const second = new Tables(fileBacking(path));
  expect(await second.numbers('n', Type.String()).get(1)).toBe('one');
  await second.close();
});
