/** `records …` as its users run it: nodes on the loopback, what is written and read, and who is believed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { defaultNetwork } from '../../host/records/service/default-network.ts';
import { Bench, type Node } from '../../test/support/records-bench.ts';

vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

/** One solution pays for any record. */
const CHEAP = ['--bytes-per-solution', '1048576'];
const WAIT = 120_000;

interface Shown {
  readonly sets: readonly (readonly {
    readonly id: string;
    readonly text: string | null;
    readonly owner: string;
    readonly unreadable: string | null;
    readonly trust: number;
    readonly localTrust: number;
    readonly oracleTrust: number | null;
    readonly weight: number | null;
    readonly selectors: readonly { readonly name: string; readonly ordinal: string | null }[];
  }[])[];
}

describe('two nodes of a network', () => {
  const bench = new Bench();
  let first: Node;
  let second: Node;
  const keys: Record<string, string> = {};
  afterAll(() => bench.close());
  const synchronised = async (name: string) =>
    await vi.waitFor(
      async () =>
        expect(await bench.json(name, 'node', 'status')).toMatchObject({ isSynchronised: true, peers: 1 }),
      WAIT,
    );
  const textOn = async (name: string, ...words: string[]): Promise<string> =>
    (await bench.run(name, 'get', ...words)).out.trim();
  const candidates = async (name: string, ...words: string[]) =>
    (await bench.json<Shown>(name, 'get', ...words)).sets[0] ?? [];

  beforeAll(async () => {
    for (const [name, folder] of [
      ['founder', 'first'],
      ['ca', 'first'],
      ['alice', 'first'],
      ['watcher', 'first'],
      ['mallory', 'second'],
      ['bob', 'second'],
    ] as const) {
      keys[name] = (await bench.json<{ owner: string }>(folder, 'owner', 'new', name)).owner;
    }
    const rules = ['--amendable', 'contact', '--authority', 'ca', ...CHEAP];
    await bench.ok('first', 'genesis', 'make', '--name', 'try', ...rules, '--out', bench.path('try.genesis'));
    first = await bench.start('first', '--genesis', bench.path('try.genesis'), '--oracle', 'watcher');
    await bench.ok('second', 'node', 'bootstrap', first.url);
    second = await bench.start('second');
    for (const name of ['first', 'second']) await synchronised(name);
  });

  test('what is written at one is read at the other, by who knows the name; several ordinals in their order', async () => {
    await bench.ok('first', 'set', 'fruit#10', 'pear', '--owner', 'alice');
    await bench.ok('first', 'set', 'fruit#9', 'an apple', '--owner', 'alice');
    await vi.waitFor(
      async () => expect(await textOn('second', 'fruit#')).toBe('an apple | fruit#9\npear     | fruit#10'),
      WAIT,
    );
    expect(await textOn('second', 'fruit#9#9')).toBe('an apple | fruit#9');
    expect(await textOn('second', 'fruit#10#18446744073709551615')).toBe('pear | fruit#10');
    expect(await bench.run('second', 'get', 'fruit')).toMatchObject({ exit: 1, out: '' });
    // Neither name nor value is to be seen where it is kept.
    const log = readFileSync(join(bench.path('second'), 'node/records.log'));
    for (const word of ['fruit', 'pear', 'apple']) expect(log.includes(word), word).toBe(false);
  });

  test('a record of several names is found by all of them together; its owner writes it anew', async () => {
    await bench.ok('first', 'set', 'city', 'river#2', 'old', '--owner', 'alice');
    const { id } = await bench.json<{ id: string }>(
      'first',
      'set',
      'city',
      'river#2',
      'new',
      '--owner',
      'alice',
      '--quiet',
    );
    const [newest, ...others] = await candidates('first', 'river#', 'city');
    expect([newest, others]).toEqual([
      expect.objectContaining({
        id,
        text: 'new',
        owner: keys.alice,
        selectors: [
          { name: 'river', ordinal: '2' },
          { name: 'city', ordinal: '0' },
        ],
      }),
      [],
    ]);
    // One name alone is another question; what has more names is shown where that is asked for.
    expect(await bench.run('first', 'get', 'city')).toMatchObject({ exit: 1 });
    expect(await textOn('first', 'city', '--open')).toMatch(/^new \| city#0 \?[\da-f]{64}$/);
  });

  test('values: bytes from a file or standard input, raw, public, and by a passphrase', async () => {
    const bytes = Uint8Array.of(0, 255, 10, 13, 27);
    writeFileSync(bench.path('value'), bytes);
    await bench.ok('first', 'set', 'bytes', '--file', bench.path('value'));
    expect(await textOn('first', 'bytes')).toBe('0x00ff0a0d1b | bytes#0');
    const [found] = (await bench.json<{ sets: { value: string }[][] }>('first', 'get', 'bytes')).sets;
    expect(Buffer.from(found![0]!.value, 'base64')).toEqual(Buffer.from(bytes));
    writeFileSync(bench.path('mask'), 'a passphrase of several words\n');
    await bench.ok('first', 'set', 'hidden', 'seen by few', '--mask', bench.path('mask'));
    expect(await textOn('first', 'hidden')).toBe('(masked) | hidden#0');
    expect(await textOn('first', 'hidden', '--mask', bench.path('mask'))).toBe('seen by few | hidden#0');
    await bench.ok('first', 'set', 'open', 'for everybody', '--public');
    expect(await bench.ok('first', 'get', 'open', '--raw')).toBe('for everybody');
    expect(readFileSync(join(bench.path('first'), 'node/records.log')).includes('for everybody')).toBe(true);
  });

  test('who writes under a name later is no winner, on either node; the oracle says so to nodes that saw both at once', async () => {
    await bench.ok('first', 'set', 'page', 'mine', '--owner', 'alice');
    await vi.waitFor(async () => expect(await textOn('second', 'page')).toBe('mine | page#0'), WAIT);
    for (const name of ['first', 'second']) await synchronised(name);
    await bench.ok('second', 'set', 'page', 'not yours', '--owner', 'mallory');
    for (const name of ['first', 'second']) {
      await vi.waitFor(async () => expect(await candidates(name, 'page')).toHaveLength(2), WAIT);
      expect(await textOn(name, 'page')).toBe('mine | page#0');
      expect(await candidates(name, 'page')).toMatchObject([
        { owner: keys.alice, localTrust: 1, trust: 1 },
        { owner: keys.mallory, localTrust: 0, trust: 0 },
      ]);
      // By another order, what is not believed may be first; and of another time nothing is there.
      expect(await candidates(name, 'page', '--sort', 'time')).toMatchObject([
        { owner: keys.mallory, trust: 0 },
        { owner: keys.alice, trust: 1 },
      ]);
      expect(await bench.run(name, 'get', 'page', '--to', '2020-01-01')).toMatchObject({ exit: 1, out: '' });
      expect(await candidates(name, 'page', '--from', '2020-01-01')).toHaveLength(2);
    }
    await vi.waitFor(() => expect(first.running.text()).toContain('a suspect record is named'), WAIT);

    await bench.ok('third', 'node', 'bootstrap', first.url);
    const third = await bench.start('third');
    const { records } = await bench.json<{ records: number }>('first', 'node', 'status');
    await vi.waitFor(
      async () =>
        expect((await bench.json<{ records: number }>('third', 'node', 'status')).records).toBe(records),
      WAIT,
    );
    // It saw neither first. Nobody is an oracle unless the reader says so.
    expect(await candidates('third', 'page')).toMatchObject([
      { trust: 1, oracleTrust: null },
      { trust: 1, oracleTrust: null },
    ]);
    await bench.ok('third', 'oracle', 'add', keys.watcher!);
    expect(await bench.json('third', 'oracle', 'list')).toEqual({ oracles: [keys.watcher] });
    expect(await candidates('third', 'page')).toMatchObject([
      { owner: keys.alice, oracleTrust: 1, trust: 1 },
      { owner: keys.mallory, oracleTrust: 0, trust: 0.5 },
    ]);
    await bench.ok('third', 'oracle', 'delete', keys.watcher!);
    expect(await candidates('third', 'page')).toMatchObject([{ trust: 1 }, { trust: 1 }]);
    expect(await third.stop()).toBe(0);
  });

  test('who is certified writes without work, until it is taken back: then nobody believes it', async () => {
    expect(await bench.run('second', 'set', 'report', 'x', '--owner', 'bob', '--nowork')).toMatchObject({
      exit: 1,
      code: 'RECORDS_PERMIT',
    });
    await bench.ok(
      'second',
      'owner',
      'makecsr',
      'bob',
      '--subject',
      'Bob, of reports',
      '--out',
      bench.path('bob.csr'),
    );
    expect(await bench.json('first', 'owner', 'showcsr', bench.path('bob.csr'))).toEqual({
      owner: keys.bob,
      subject: 'Bob, of reports',
    });
    expect(
      await bench.run('first', 'owner', 'authorize', 'alice', bench.path('bob.csr'), '30'),
    ).toMatchObject({ code: 'RECORDS_AUTHORITY' });
    const { id, serial } = await bench.json<{ id: string; serial: string }>(
      'first',
      'owner',
      'authorize',
      'ca',
      bench.path('bob.csr'),
      '30',
    );
    await vi.waitFor(
      async () =>
        expect(await bench.json('second', 'owner', 'status', 'bob')).toMatchObject({
          certificates: [{ id, serial, authority: keys.ca }],
        }),
      WAIT,
    );
    await bench.ok('second', 'set', 'report', 'all is well', '--owner', 'bob', '--nowork');
    expect(await candidates('second', 'report')).toMatchObject([{ text: 'all is well', trust: 1 }]);
    await bench.ok('first', 'owner', 'revoke', 'ca', serial);
    await vi.waitFor(
      async () => expect(await candidates('second', 'report')).toMatchObject([{ trust: 0, localTrust: 0 }]),
      WAIT,
    );
    expect(await textOn('second', 'report')).toContain('nobody believes it');
    expect(await bench.run('second', 'set', 'report', 'x', '--owner', 'bob', '--nowork')).toMatchObject({
      code: 'RECORDS_PERMIT',
    });
  });

  test('the founder changes what may be changed, and nothing else; others change nothing', async () => {
    await bench.ok('first', 'genesis', 'amend', '--contact', 'ask@example.org');
    await vi.waitFor(
      async () =>
        expect(await bench.json('second', 'node', 'status')).toMatchObject({
          contact: 'ask@example.org',
          name: 'try',
        }),
      WAIT,
    );
    expect(await bench.run('first', 'genesis', 'amend', '--name', 'other')).toMatchObject({
      exit: 1,
      code: 'RECORD_AMENDMENT',
    });
    expect(await bench.run('first', 'genesis', 'amend', '--contact', 'x', '--owner', 'alice')).toMatchObject({
      code: 'RECORDS_AUTHORITY',
    });
  });

  test('a node that lost its power has what it acknowledged, and dials its peers again', async () => {
    await bench.ok('second', 'set', 'kept', 'through it all', '--owner', 'mallory');
    await second.kill();
    expect(await bench.run('second', 'get', 'kept', '--url', second.url)).toMatchObject({
      exit: 1,
      code: 'RECORDS_NO_NODE',
    });
    // Its folder says still that it runs there: the next node is asked.
    expect(await textOn('second', 'fruit#9')).toBe('an apple | fruit#9');
    second = await bench.start('second');
    expect(await textOn('second', 'kept')).toBe('through it all | kept#0');
    await synchronised('second');
    expect(await bench.json('second', 'node', 'status')).toMatchObject({ dialled: [expect.anything()] });
  });

  test('its folder is for one node at a time, and what is secret in it for its user alone', async () => {
    await expect(bench.start('first')).rejects.toThrow(/RECORDS_HELD/);
    for (const file of [
      'node/identity',
      'node/authtoken',
      'node/peers.json',
      'owners/mallory.pem',
      'client.json',
      'node/running.json',
    ])
      expect(statSync(join(bench.path('second'), file)).mode & 0o777, file).toBe(0o600);
    for (const folder of ['node', 'owners', '.'])
      expect(statSync(join(bench.path('second'), folder)).mode & 0o777, folder).toBe(0o700);
    expect(await bench.run('second', 'rebuild')).toMatchObject({ code: 'RECORDS_HELD' });
    expect(await second.stop()).toBe(0);
    const { records } = await bench.json<{ records: number }>('first', 'node', 'status');
    expect(await bench.json('second', 'rebuild')).toMatchObject({ records, dropped: 0, unreadable: 0 });
  });
});

describe('networks that are not each other’s', () => {
  const bench = new Bench();
  afterAll(() => bench.close());

  test('their nodes never talk; a private one’s members need its secret; a folder stays with its network', async () => {
    await bench.ok('a', 'owner', 'new', 'me');
    const make = (...more: string[]) =>
      bench.json<{ network: string }>('a', 'genesis', 'make', '--name', 'x', ...CHEAP, ...more);
    const { network } = await make('--out', bench.path('a.genesis'));
    await make('--private', '--out', bench.path('p.genesis'));
    expect(
      await bench.run('a', 'genesis', 'make', '--name', 'x', '--out', bench.path('a.genesis')),
    ).toMatchObject({ code: 'RECORDS_EXISTS' });
    expect(statSync(bench.path('p.genesis.secret')).mode & 0o777).toBe(0o600);

    const a = await bench.start('a', '--genesis', bench.path('a.genesis'));
    const p = await bench.start(
      'p',
      '--genesis',
      bench.path('p.genesis'),
      '--secret',
      bench.path('p.genesis.secret'),
    );
    const of = (name: string) =>
      bench.json<{ network: string; wire: { key: string; port: number } }>(name, 'node', 'status');
    const { wire } = await of('a');
    expect(await of('a')).toMatchObject({ network });
    await bench.ok('p', 'node', 'connect', `127.0.0.1:${wire.port}`, wire.key);
    await vi.waitFor(
      () => expect(p.running.text()).toMatch(/"code":"(NOISE_REFUSED|WIRE_CLOSED|WIRE_CUT)"/),
      WAIT,
    );
    expect(await bench.json('p', 'node', 'status')).toMatchObject({ peers: 0, isPrivate: true });

    expect(await bench.run('q', 'node', 'bootstrap', p.url)).toMatchObject({
      exit: 1,
      code: 'RECORDS_SECRET',
    });
    expect(await bench.run('q', 'node', 'bootstrap', a.url, '--network', 'ab'.repeat(32))).toMatchObject({
      code: 'RECORDS_NETWORK_OTHER',
    });
    await bench.ok('q', 'node', 'bootstrap', p.url, '--secret', bench.path('p.genesis.secret'));
    expect(await bench.run('q', 'node', 'bootstrap', p.url)).toMatchObject({ code: 'RECORDS_EXISTS' });
    expect(await bench.run('q', 'get', 'x', '--url', a.url)).toMatchObject({
      exit: 1,
      code: 'RECORDS_NETWORK_OTHER',
    });

    // Its names are keyed by its secret: who has it reads them.
    const { network: other } = await of('p');
    expect(await bench.run('r', 'get', 'name', '--network', other, '--url', p.url)).toMatchObject({
      exit: 1,
      code: 'RECORDS_SECRET',
    });
    // Named once, it is the folder's.
    expect(await bench.run('r', 'get', 'name', '--url', p.url)).toMatchObject({ code: 'RECORDS_SECRET' });
    expect(await bench.run('r', 'get', 'name', '--network', network, '--url', p.url)).toMatchObject({
      code: 'RECORDS_NETWORK_OTHER',
    });
    await bench.ok('p', 'owner', 'new', 'us');
    await bench.ok('p', 'set', 'name', 'ours');
    await bench.start('q');
    await vi.waitFor(
      async () => expect((await bench.run('q', 'get', 'name')).out).toBe('ours | name#0\n'),
      WAIT,
    );
  });

  test('who names no network is of the built-in one: its node, its questions, and no node of another', async () => {
    const shown = await bench.json<{ network: string }>('d', 'genesis', 'show');
    expect(shown).toMatchObject({ network: defaultNetwork, records: 2 });
    const node = await bench.start('d');
    expect(await bench.json('d', 'node', 'status')).toMatchObject({
      ...{ network: defaultNetwork, name: 'dstack', records: 2, peers: 0, isPrivate: false },
    });
    // A folder that has asked nobody yet.
    expect(await bench.run('e', 'get', 'nothing', '--url', node.url)).toMatchObject({ exit: 1, out: '' });
    const other = await bench.start('f', '--localtest');
    expect(await bench.run('g', 'get', 'nothing', '--url', other.url)).toMatchObject({
      exit: 1,
      code: 'RECORDS_NETWORK_OTHER',
    });
    const { network } = await bench.json<{ network: string }>('f/localtest', 'node', 'status');
    expect(await bench.run('g', 'get', 'nothing', '--url', other.url, '--network', network)).toMatchObject({
      exit: 1,
      code: undefined,
    });
    // Its node is none of the built-in network from then on, and neither is it begun as one.
    expect(await bench.run('g', 'get', 'nothing', '--url', node.url)).toMatchObject({
      code: 'RECORDS_NETWORK_OTHER',
    });
    expect(
      await bench.run('g', 'node', 'start', '--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'),
    ).toMatchObject({ code: 'RECORDS_NO_NETWORK' });
    expect(await node.stop()).toBe(0);
    expect(await other.stop()).toBe(0);
  });

  test('npx dstack has a node take little memory, and what a person has set counts', async () => {
    const words = [
      'records',
      'node',
      'start',
      '--localtest',
      '--http',
      '127.0.0.1:0',
      '--path',
      bench.path('m'),
    ];
    const child = spawn(process.execPath, [join(import.meta.dirname, '../dstack.mjs'), ...words], {
      env: { ...process.env, MALLOC_ARENA_MAX: '3' },
    });
    const ended = once(child, 'exit');
    let said = '';
    child.stdout.on('data', (part: Buffer) => {
      said += part;
    });
    await vi.waitFor(() => expect(said).toContain('the node runs'), WAIT);
    const pid = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')).toContain('--max-semi-space-size=4');
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')).toContain('MALLOC_ARENA_MAX=3');
    child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
  });

  test('--localtest: a network of one, without peers, in a folder of its own', async () => {
    const node = await bench.start('t', '--localtest');
    const path = 't/localtest';
    expect(await bench.json(path, 'node', 'status')).toMatchObject({
      name: 'local test',
      wire: null,
      peers: 0,
      isSynchronised: true,
    });
    await bench.ok(path, 'owner', 'new', 'me');
    await bench.ok(path, 'set', 'x#7', 'y');
    expect(await bench.ok(path, 'get', 'x#')).toBe('y | x#7\n');
    expect(await bench.run(path, 'node', 'connect', '127.0.0.1:9', 'ab'.repeat(32))).toMatchObject({
      code: 'RECORDS_NO_WIRE',
    });
    expect(await node.stop()).toBe(0);
    expect(await bench.run(path, 'node', 'status')).toMatchObject({ code: 'RECORDS_NO_NODE' });
  });

  test('pulse: what is written already is not written again, and its owner says that it still holds', async () => {
    const node = await bench.start('u', '--localtest');
    const path = 'u/localtest';
    for (const name of ['me', 'you']) await bench.ok(path, 'owner', 'new', name);
    type Told = { id: string; pulse: string | null };
    const set = (...words: string[]) => bench.json<Told>(path, 'set', 'here', ...words, '--pulse', '--quiet');
    const shown = async () =>
      (await bench.json<{ sets: Told[][] }>(path, 'get', 'here')).sets[0]!.map(({ id, pulse }) => ({
        id,
        pulse,
      }));
    const first = await set('yes');
    expect(first.pulse).toBe(null);
    expect(await shown()).toEqual([{ id: first.id, pulse: null }]);
    const again = await set('yes');
    expect(again.id).toBe(first.id);
    expect(await shown()).toEqual([{ id: again.id, pulse: again.pulse }]);
    expect(Date.now() - Date.parse(again.pulse!)).toBeLessThan(120_000);
    const changed = await set('no');
    expect([changed.id === first.id, changed.pulse]).toEqual([false, null]);
    expect(await bench.json(path, 'pulse', 'here')).toMatchObject({ id: changed.id, isNew: true });
    expect(await bench.run(path, 'pulse', 'here', '--owner', 'you')).toMatchObject({
      code: 'RECORDS_NO_RECORD',
    });
    expect(await bench.run(path, 'pulse', 'there')).toMatchObject({ code: 'RECORDS_NO_RECORD' });
    expect(await node.stop()).toBe(0);
  });

  test('a file that is longer than a record may be is written in parts, and read whole', async () => {
    const node = await bench.start('x', '--localtest');
    const path = 'x/localtest';
    await bench.ok(path, 'owner', 'new', 'me');
    const file = Buffer.alloc(150_000, 'some text, and some more of it. ');
    writeFileSync(bench.path('long'), file);
    const set = (...words: string[]) =>
      bench.json<{ id: string; pulse: string | null }>(
        path,
        'set',
        ...words,
        '--file',
        bench.path('long'),
        '--quiet',
      );
    const { id } = await set('long');
    expect((await bench.ok(path, 'get', 'long', '--raw')) === file.toString()).toBe(true);
    expect(await bench.ok(path, 'get', 'long')).toBe('(a file: --raw) | long#0\n');
    expect(await set('long', '--pulse')).toMatchObject({ id, pulse: expect.any(String) });
    // Whoever does not know the name reads none of it.
    const log = readFileSync(join(bench.path(path), 'node/records.log'));
    expect(log.includes('some text, and some more')).toBe(false);
    await set('other', 'names', '--public');
    expect((await bench.ok(path, 'get', 'names', 'other', '--raw')) === file.toString()).toBe(true);
    expect(await node.stop()).toBe(0);
  });

  test('prune: values that were replaced go, and are named thrown away; the newest stays; all are wanted again with --undo', async () => {
    const node = await bench.start('v', '--localtest');
    const path = 'v/localtest';
    await bench.ok(path, 'owner', 'new', 'me');
    for (const value of ['old', 'new']) await bench.ok(path, 'set', 'page#1', value);
    await bench.ok(path, 'set', 'other', 'alone');
    expect(await bench.run(path, 'prune')).toMatchObject({ code: 'RECORDS_HELD' });
    expect(await node.stop()).toBe(0);
    expect(await bench.json(path, 'prune', '--older-than', '1d')).toMatchObject({ discarded: 0 });
    expect(await bench.json(path, 'prune', 'other')).toMatchObject({ discarded: 0 });
    expect(await bench.json(path, 'prune', '--dry-run')).toMatchObject({ discarded: 1, before: null });
    expect(await bench.json(path, 'prune', 'page#', '--owner', 'me')).toMatchObject({ discarded: 1 });
    expect(await bench.json(path, 'prune', 'other', '--current')).toMatchObject({ discarded: 1 });
    const again = await bench.start('v', '--localtest');
    expect(await bench.ok(path, 'get', 'page#')).toBe('new | page#1\n');
    expect(await bench.ok(path, 'get', 'other')).toBe('(thrown away) | other#0\n');
    expect(await again.stop()).toBe(0);
    expect(await bench.json(path, 'prune', '--undo')).toMatchObject({ wanted: 2 });
  });

  test('a node that is told so throws replaced values away by itself', async () => {
    const node = await bench.start('w', '--localtest');
    const path = 'w/localtest';
    await bench.ok(path, 'owner', 'new', 'me');
    for (const value of ['old', 'new']) await bench.ok(path, 'set', 'page', value);
    expect(await node.stop()).toBe(0);
    const again = await bench.start('w', '--localtest', '--discard-after', '0s');
    expect(again.running.text()).toContain('"discarded":1');
    expect(await bench.ok(path, 'get', 'page')).toBe('new | page#0\n');
    expect(await again.stop()).toBe(0);
    expect(await bench.json(path, 'prune')).toMatchObject({ discarded: 0 });
  });
});
