/** What is mistyped after `records` is told, with exit code 2, before anything is done. */
import { readdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Bench } from '../../test/support/records-bench.ts';

const bench = new Bench();
const KEY = 'ab'.repeat(32);
beforeAll(async () => {
  await bench.ok('me', 'owner', 'new', 'me');
  writeFileSync(bench.path('empty'), '');
});
afterAll(() => bench.close());

test.each([
  ['get'],
  ['get', '#'],
  ['get', 'a#b'],
  ['get', 'a', 'a#2'],
  ['get', 'a', '--raw', '--json'],
  ['get', 'a', '--from', 'yesterday'],
  ['get', 'a', '--to', '2026-13-01'],
  ['get', 'a', '--from', '999999999999'],
  ['get', 'a'.repeat(4_097)],
  ['get', 'a', '--sort', 'size'],
  ['get', 'a', '--url', 'ftp://x'],
  ['get', 'a', '--url', 'http://user:word@127.0.0.1:9980'],
  ['get', 'a', '--url', 'http://127.0.0.1:9980/v1'],
  ['get', 'a', '--jsn'],
  ['set'],
  ['set', 'value-alone'],
  ['set', 'a#1#2', 'v'],
  ['set', 'a#', 'v'],
  ['set', 'a', 'v', '--mask', 'x', '--public'],
  ['set', 'a', 'v', '--owner', 'a b'],
  ['node', 'start', '--listen', '9908'],
  ['node', 'start', '--http', '127.0.0.1:99999'],
  ['node', 'start', '--localtest', '--genesis', 'x'],
  ['node', 'start', '--log-level', 'loud'],
  ['node', 'start', '--name', 'http://x'],
  ['node', 'connect', '127.0.0.1:9908'],
  ['node', 'connect', '127.0.0.1', KEY],
  ['node', 'connect', '127.0.0.1:0', KEY],
  ['node', 'connect', '127.0.0.1:9908', 'ab'],
  ['node', 'connect', '..:9908', KEY],
  ['node', 'start', '--listen', '..:9908'],
  ['node', 'bootstrap', '127.0.0.1:9980'],
  ['node', 'bootstrap', 'http://127.0.0.1:9980', '--network', 'x'],
  ['owner', 'new', '../me'],
  ['owner', 'new', KEY],
  ['owner', 'new', ''],
  ['owner', 'delete', 'me'],
  ['owner', 'newfrompass', 'pass'],
  ['owner', 'rename', 'me', '.hidden'],
  ['owner', 'authorize', 'me', 'x.csr', '0'],
  ['owner', 'authorize', 'me', 'x.csr', '1.5'],
  ['owner', 'revoke', 'me', 'x'],
  ['owner', 'revoke', 'me', '18446744073709551616'],
  ['url', 'add', 'localhost'],
  ['url', 'delete', 'http://127.0.0.1:1'],
  ['oracle', 'delete', KEY],
  ['genesis', 'make', '--out', 'x'],
  ['genesis', 'make', '--name', 'x', '--out', 'x', '--min-links', 'two'],
  ['genesis', 'make', '--name', 'x', '--out', 'x', '--min-links', '16'],
  ['genesis', 'make', '--name', 'x', '--out', 'x', '--drift', '60'],
  ['genesis', 'make', '--name', 'x', '--out', 'x', '--amendable', 'drift'],
  ['genesis', 'make', '--name', 'x', '--out', 'x', '--certificate-required'],
  ['genesis', 'make', '--name', 'x'.repeat(65), '--out', 'x'],
  ['genesis', 'amend'],
  ['pulse'],
  ['pulse', 'a#1#2', '--every', '5s'],
  ['set', 'a', 'v', '--pulse-every', 'often'],
  ['prune', '--current'],
  ['prune', '--undo', '--older-than', '1d'],
  ['prune', '--undo', 'name'],
  ['prune', '--older-than', 'old'],
  ['prune', '--at-least', '65537'],
  ['node', 'start', '--discard-after', 'soon'],
])('%s %s %s %s %s %s', async (...words) => {
  expect(await bench.run('me', ...words)).toMatchObject({ exit: 2, out: '' });
  expect(readdirSync(bench.path('me')).toSorted()).toEqual(['client.json', 'owners']);
});

test.each([
  ['RECORDS_OWNER', ['set', 'a', 'v', '--owner', 'nobody']],
  ['RECORDS_OWNER', ['owner', 'new', 'me']],
  ['RECORDS_OWNER', ['owner', 'default', 'nobody']],
  ['RECORDS_OWNER', ['oracle', 'add', 'nobody']],
  ['RECORDS_NO_NODE', ['get', 'a']],
  ['RECORDS_NO_NODE', ['get', 'a', '--url', 'http://127.0.0.1:1']],
  ['RECORDS_NO_NODE', ['node', 'connect', '127.0.0.1:9908', KEY]],
  ['RECORDS_OWNER', ['pulse', 'a', '--owner', 'nobody']],
  ['RECORDS_FOLDER', ['rebuild']],
  ['RECORDS_FOLDER', ['prune']],
  ['HTTP_UNREACHABLE', ['node', 'bootstrap', 'http://127.0.0.1:1']],
] as const)('%s: %j', async (code, words) => {
  expect(await bench.run('me', ...words)).toMatchObject({ exit: 1, code, out: '' });
});

test('owners: a key goes out and comes back as the same one, is renamed, and is deleted only when that is meant', async () => {
  const { owner } = await bench.json<{ owner: string }>('one', 'owner', 'new', 'first');
  await bench.ok('one', 'owner', 'export', 'first', '--out', bench.path('first.pem'));
  expect(await bench.run('one', 'owner', 'export', 'first', '--out', bench.path('first.pem'))).toMatchObject({
    exit: 1,
  });
  expect(await bench.json('two', 'owner', 'import', 'mine', bench.path('first.pem'))).toEqual({
    name: 'mine',
    owner,
  });
  expect(await bench.run('two', 'owner', 'import', 'other', bench.path('empty'))).toMatchObject({
    code: 'KEY_FILE',
  });
  writeFileSync(bench.path('words'), 'four words well chosen\n');
  const pass = ['newfrompass', 'same', '--passphrase-file', bench.path('words')];
  const made = await bench.json('one', 'owner', ...pass);
  expect(await bench.json('two', 'owner', ...pass)).toEqual(made);
  expect(
    await bench.run('one', 'owner', 'newfrompass', 'x', '--passphrase-file', bench.path('empty')),
  ).toMatchObject({ code: 'RECORD_PASSPHRASE' });
  await bench.ok('one', 'owner', 'rename', 'first', 'again');
  expect(await bench.run('one', 'owner', 'rename', 'again', 'same')).toMatchObject({ code: 'RECORDS_OWNER' });
  expect(await bench.json('one', 'owner', 'list')).toMatchObject({
    default: 'again',
    owners: [{ name: 'again', owner }, made],
  });
  // What no command could have put there is nobody.
  for (const file of ['again copy', KEY]) writeFileSync(bench.path(`one/owners/${file}.pem`), 'x');
  await bench.ok('one', 'owner', 'default', 'same');
  await bench.ok('one', 'owner', 'delete', 'same', '--yes');
  expect(await bench.json('one', 'owner', 'list')).toEqual({
    default: null,
    owners: [{ name: 'again', owner }],
  });
});

test('nodes to ask: in their order, each once', async () => {
  const [a, b] = ['http://127.0.0.1:1', 'https://records.example'];
  await bench.ok('urls', 'url', 'add', a);
  await bench.ok('urls', 'url', 'add', `${b}/`);
  expect(await bench.json('urls', 'url', 'default', b)).toEqual({ urls: [b, a] });
  expect(await bench.json('urls', 'url', 'add', b)).toEqual({ urls: [a, b] });
  expect(await bench.json('urls', 'url', 'delete', a)).toEqual({ urls: [b] });
  expect(await bench.ok('urls', 'url', 'list')).toBe(`${b}\n`);
});
