/**
 * Debian's etcdctl, unmodified, at the store and at a bare etcd: each subcommand has to say the same at both.
 *
 * Left out: `check perf` and `check datascale` (a minute of load each, judged by the machine's speed), `completion`, `version` and `help`
 * (they ask no server), `snapshot restore` and `status` (they read a file; `status` is used here to check one).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Etcd, startEtcd } from '../support/etcd.ts';
import { type EtcdctlOptions, etcdctl, etcdctlUntil, type Said } from '../support/etcdctl.ts';
import { app, owner, startKv, type TestKv } from '../support/kv.ts';

let bare: Etcd;
let kv: TestKv;
let store: string;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-etcdctl-'));
  [bare, kv] = await Promise.all([startEtcd({ bare: true }), startKv()]);
  store = await kv.open(owner);
});
afterAll(async () => {
  await Promise.all([bare?.stop(), kv?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** What may differ: ids, revisions (the store writes keys of its own), times, addresses, sizes and Go's log lines. */
function plain({ code, out, err }: Said): unknown {
  const told = (text: string): string =>
    text
      .split('\n')
      .filter((line) => !line.startsWith('{"level"'))
      .join('\n')
      .replaceAll(/127\.0\.0\.1:\d+/g, 'ADDRESS')
      .replaceAll(/\b[0-9a-f]{14,16}\b/g, 'ID')
      .replaceAll(/\b\d{15,20}\b/g, 'NUMBER')
      .replaceAll(/remaining\(-?\d+s\)/g, 'remaining(S)')
      .replaceAll(/took = [\d.]+[mµ]?s/g, 'took = TIME')
      .replaceAll(/("(?:Revision|RaftTerm|CreateRevision|ModRevision)") : \d+/g, '$1 : N')
      .replaceAll(/("(?:revision|raft_term|create_revision|mod_revision)"): ?\d+/g, '$1:N');
  return { code, out: told(out), err: told(err) };
}

/** Runs the same at both and holds them against each other; what the store said. */
async function same(args: readonly string[], options: EtcdctlOptions = {}): Promise<Said> {
  const [theirs, ours] = await Promise.all([
    etcdctl(bare.address, args, options),
    etcdctl(store, args, options),
  ]);
  expect({ args, ...(plain(ours) as object) }).toEqual({ args, ...(plain(theirs) as object) });
  return ours;
}

/** The same where an argument differs: a lease's id, a revision. */
async function sameOf(argsFor: (at: string) => Promise<readonly string[]>): Promise<Said> {
  const [theirs, ours] = await Promise.all(
    [bare.address, store].map(async (at) => etcdctl(at, await argsFor(at))),
  );
  expect(plain(ours!)).toEqual(plain(theirs!));
  return ours!;
}

async function sameUntil(
  args: readonly string[],
  wanted: RegExp,
  meanwhile?: (at: string) => Promise<unknown>,
): Promise<Said> {
  const [theirs, ours] = await Promise.all(
    [bare.address, store].map((at) =>
      etcdctlUntil(at, args, wanted, () => meanwhile?.(at) ?? Promise.resolve()),
    ),
  );
  expect(plain(ours!)).toEqual(plain(theirs!));
  return ours!;
}

const revisionOf = async (at: string): Promise<number> =>
  JSON.parse((await etcdctl(at, ['get', 'nothing', '-w', 'json'])).out).header.revision;

describe('keys', () => {
  test('put, get and del with their options', async () => {
    await same(['put', 'a/1', 'one']);
    expect((await same(['put', 'a/1', 'two', '--prev-kv'])).out).toBe('OK\na/1\none\n');
    await same(['put', 'a/1', '--ignore-value', '--ignore-lease']);
    await same(['put', 'a/2', '--', '-dashed']);
    await same(['put', 'a/3'], { input: 'from the input\nof two lines' });
    for (const args of [
      ['a/1'],
      ['a/1', '-w', 'json'],
      ['a/1', '-w', 'fields'],
      ['a/1', '--hex'],
      ['a/', '--prefix'],
      ['a/', '--prefix', '--keys-only'],
      ['a/', '--prefix', '--count-only', '--write-out=fields'],
      ['a/', '--prefix', '--print-value-only', '--limit=2'],
      ['a/', '--prefix', '--sort-by=MODIFY', '--order=DESCEND'],
      ['a/', '--prefix', '--sort-by=VALUE'],
      ['a/2', '--from-key'],
      ['a/1', 'a/3'],
      ['', '--prefix'],
      ['a/1', '--consistency=s'],
      ['none'],
      ['a/1', '--rev=1000000'],
    ])
      await same(['get', ...args]);
    await same(['put', 'gone', 'x']);
    expect((await same(['del', 'gone', '--prev-kv'])).out).toBe('1\ngone\nx\n');
    await same(['del', 'a/2', '--from-key']);
    await same(['del', '', '--prefix']);
    await same(['put', 'none', '--ignore-value']);
    await same(['put', 'x', 'y', '--lease=123']);
    await same(['get', '']);
  });

  test('an earlier revision, and compaction', async () => {
    await same(['put', 'rev', 'old']);
    const revisions = new Map<string, number>();
    for (const at of [bare.address, store]) revisions.set(at, await revisionOf(at));
    await same(['put', 'rev', 'new']);
    expect((await sameOf(async (at) => ['get', 'rev', `--rev=${revisions.get(at)}`])).out).toBe('rev\nold\n');
    for (const at of [bare.address, store]) {
      const newest = await revisionOf(at);
      expect((await etcdctl(at, ['compaction', String(newest)])).out).toBe(`compacted revision ${newest}\n`);
    }
    const gone = await sameOf(async (at) => ['get', 'rev', `--rev=${revisions.get(at)}`]);
    expect(gone.err).toContain('mvcc: required revision has been compacted');
    await sameOf(async (at) => ['compaction', String(revisions.get(at))]);
    await same(['compaction', '1000000', '--physical']);
  });

  test('txn', async () => {
    await same(['txn'], { input: 'ver("txn") = "0"\n\nput txn yes\n\nput txn no\nget txn\n\n' });
    await same(['txn'], {
      input: 'val("txn") = "yes"\nmod("txn") > "0"\n\nget txn\ndel txn\n\nget txn\n\n',
    });
    await same(['txn'], { input: 'ver("txn") = "7"\n\nget txn\n\nput txn no\n\n' });
    await same(['txn'], { input: '\nput twice 1\nput twice 2\n\n\n' });
  });

  test('watch', async () => {
    const write = (at: string) => etcdctl(at, ['put', 'w/1', 'seen']).then(() => etcdctl(at, ['del', 'w/1']));
    expect((await sameUntil(['watch', 'w/', '--prefix'], /DELETE\nw\/1\n/, write)).out).toBe(
      'PUT\nw/1\nseen\nDELETE\nw/1\n\n',
    );
    await sameUntil(['watch', 'w/1', '--prev-kv'], /DELETE\nw\/1\nseen/, write);
    await sameUntil(['watch', 'w/1', 'w/2', '--', 'echo', 'ran'], /ran\n[\s\S]*ran\n/, write);
    const compacted = await same(['watch', 'w/1', '--rev=1']);
    expect(compacted.err + compacted.out).toContain('compacted');
  });
});

describe('leases', () => {
  const ids = new Map<string, string>();
  const withId =
    (...args: string[]) =>
    async (at: string) =>
      args.map((arg) => (arg === 'ID' ? ids.get(at)! : arg));

  test('grant, attach, timetolive, keep-alive, list, revoke', async () => {
    for (const at of [bare.address, store]) {
      const { out } = await etcdctl(at, ['lease', 'grant', '300']);
      ids.set(at, /lease ([0-9a-f]+) granted with TTL\(300s\)/.exec(out)![1]!);
    }
    await sameOf(async (at) => ['put', 'leased', 'x', `--lease=${ids.get(at)}`]);
    expect((await sameOf(withId('lease', 'timetolive', 'ID', '--keys'))).out).toContain(
      'attached keys([leased])',
    );
    await sameOf(withId('lease', 'keep-alive', 'ID', '--once'));
    await same(['lease', 'list']);
    await sameOf(withId('lease', 'revoke', 'ID'));
    await sameOf(withId('lease', 'revoke', 'ID'));
    await sameOf(withId('lease', 'timetolive', 'ID'));
    await same(['get', 'leased']);
    await same(['lease', 'list']);
    await same(['lease', 'grant', '10000000000']);
  });
});

describe('locks and elections', () => {
  test('lock runs a command while it holds the lock', async () => {
    expect((await same(['lock', 'mine', 'echo', 'held'])).out).toBe('held\n');
    await sameUntil(['lock', 'mine'], /mine\/[0-9a-f]+/);
  });

  test('elect campaigns, and listens', async () => {
    expect((await sameUntil(['elect', 'who', 'me'], /who\/[0-9a-f]+\nme\n/)).out).toMatch(/me\n/);
    await sameUntil(['elect', 'who', '--listen'], /^who\/[0-9a-f]+\nheard\n/, async (at) => {
      await etcdctlUntil(at, ['elect', 'who', 'heard'], /heard/);
    });
  });
});

describe('the store itself', () => {
  test('member, endpoint, alarm and defrag', async () => {
    // Its peers' addresses are of the VM's inside.
    expect((await etcdctl(store, ['member', 'list'])).out).toMatch(
      /^[0-9a-f]+, started, kv, , http:\/\/127[^,]*, false\n$/,
    );
    for (const args of [
      ['endpoint', 'health'],
      ['endpoint', 'health', '--cluster'],
      ['alarm', 'list'],
      ['alarm', 'disarm'],
    ])
      await same(args);
    expect((await etcdctl(store, ['endpoint', 'status', '-w', 'json'])).out).toContain('"version":"3.5.16"');
    expect((await etcdctl(store, ['endpoint', 'hashkv'])).out).toMatch(/, \d+\n$/);
    const { out } = await etcdctl(store, ['defrag']);
    expect(out).toMatch(/^Finished defragmenting etcd member\[http:\/\/127/);
  });

  test('a snapshot of it is one of etcd', async () => {
    const file = join(folder, 'snapshot.db');
    expect((await etcdctl(store, ['snapshot', 'save', file])).out).toContain(`Snapshot saved at ${file}`);
    const status = await etcdctl(store, ['snapshot', 'status', file], { program: 'etcdutl' });
    expect([status.code, status.out]).toEqual([0, expect.stringMatching(/^[0-9a-f]+, \d+, \d+, /)]);
  });

  test("is not changed from here: members and the leader are the network's affair", async () => {
    const { out } = await etcdctl(store, ['member', 'list']);
    const id = out.split(',')[0]!;
    for (const args of [
      ['member', 'add', 'other', '--peer-urls=http://127.0.0.1:1'],
      ['member', 'remove', id],
      ['member', 'update', id, '--peer-urls=http://127.0.0.1:1'],
      ['member', 'promote', id],
      ['move-leader', id],
    ]) {
      const said = await etcdctl(store, args);
      expect([said.code, said.err]).toEqual([
        expect.any(Number),
        expect.stringMatching(
          /unknown method .*: members, the leader and the version are not changed from here/,
        ),
      ]);
      expect(said.code).not.toBe(0);
    }
  });

  test('is for its owner alone', async () => {
    const at = await kv.open(app('guest'));
    for (const args of [
      ['defrag'],
      ['alarm', 'list'],
      ['endpoint', 'hashkv'],
      ['snapshot', 'save', join(folder, 'no.db')],
    ]) {
      const said = await etcdctl(at, args);
      expect([said.code === 0, `${said.err}${said.out}`]).toEqual([
        false,
        expect.stringContaining('permission denied'),
      ]);
    }
    expect((await etcdctl(at, ['put', 'own', 'x'])).out).toBe('OK\n');
    expect((await etcdctl(at, ['get', '', '--prefix', '--keys-only'])).out).toBe('own\n\n');
  });

  test('make-mirror copies to another', async () => {
    await etcdctl(store, ['put', 'mirrored/1', 'x']);
    const copied = await etcdctlUntil(
      store,
      ['make-mirror', bare.address, '--prefix=mirrored/', '--dest-prefix=copy/'],
      /(?:)/,
      async () => {
        for (let tries = 0; tries < 200; tries++)
          if ((await etcdctl(bare.address, ['get', 'copy/1'])).out === 'copy/1\nx\n') return;
      },
    );
    expect(copied.err).not.toContain('Error');
    expect((await etcdctl(bare.address, ['get', 'copy/1'])).out).toBe('copy/1\nx\n');
  });
});

/** What people mistype, of what a server has a say in or a person could take for an answer. */
describe('mistakes', () => {
  const txnOf = (text: string): [string[], EtcdctlOptions] => [['txn'], { input: text }];
  test.each<[string[], EtcdctlOptions?]>([
    [['get', 'a', 'b', 'c']],
    [['get', 'b', 'a']],
    [['get', 'a', '--limit=-1']],
    [['get', 'a', '--rev=-1']],
    [['get', 'a', '--rev=99999999999999']],
    [['get', 'a', '--prefix', '--from-key']],
    [['get', 'a', '--count-only']],
    [['get', 'a', '--consistency=x']],
    [['get', '--prefx', 'a']],
    [['gte', 'a']],
    [['ls']],
    [['put', 'a']],
    [['put', 'a', 'b', 'c']],
    [['put', '', 'x']],
    [['put', 'a', 'b', '--lease=zz']],
    [['put', 'a', 'b', '--lease=-1']],
    [['put', 'a', 'b', '--ignore-value']],
    [['put', 'not-there', '--ignore-value']],
    [['del', '']],
    [['del', 'b', 'a']],
    [['lease', 'grant', '0']],
    [['lease', 'grant', '99999999999']],
    [['lease', 'revoke', '0']],
    [['lease', 'revoke', '1234']],
    [['lease', 'timetolive', '0']],
    [['lease', 'keep-alive', '1234']],
    [['lease', 'keep-alive', '1234', '--once']],
    [['compaction', '0']],
    [['compaction', '99999999']],
    txnOf('\nput d 1\nput d 2\n\n\n'),
    txnOf('\nput "" x\n\n\n'),
    txnOf('val("a") = b\n\n\n\n'),
    txnOf('\n\n\n'),
    [['user', 'add', 'no-password:']],
    [['user', 'delete', 'no-password']],
    [['user', 'get', '']],
    [['user', 'passwd', 'nobody', '--interactive=false'], { input: 'x\n' }],
    [['user', 'grant-role', 'nobody', 'none']],
    [['role', 'add', '']],
    [['role', 'add', 'mistyped']],
    [['role', 'add', 'mistyped']],
    [['role', 'grant-permission', 'mistyped', 'read', 'b', 'a']],
    [['role', 'grant-permission', 'mistyped', 'read', '']],
    [['role', 'grant-permission', 'none', 'read', 'k']],
    [['role', 'revoke-permission', 'mistyped', 'nothing']],
    [['role', 'get', 'mistyped']],
    [['role', 'delete', 'mistyped']],
    [['auth', 'enable']],
    [['get', 'a'], { user: 'nobody:x' }],
    [['lock', 'a', '/nonexistent']],
    [['lock', '', 'true']],
    [['endpoint', 'hashkv', '--rev=99999999']],
  ])('%j', async (args, options) => {
    await same(args, options);
  });
});

describe('users and roles', () => {
  test('from the first user to a store that asks who calls, and back', async () => {
    for (const args of [
      ['auth', 'enable'],
      ['user', 'add', 'root:secret'],
      ['user', 'add', 'root:secret'],
      ['auth', 'enable'],
      ['user', 'grant-role', 'root', 'root'],
      ['role', 'add', 'root'],
      ['role', 'add', 'reader'],
      ['role', 'grant-permission', 'reader', 'read', 'open/', '--prefix=true'],
      ['role', 'grant-permission', 'reader', 'readwrite', 'mine'],
      ['role', 'get', 'reader'],
      ['role', 'list'],
      ['user', 'add', 'alice:password'],
      ['user', 'grant-role', 'alice', 'reader'],
      ['user', 'grant-role', 'alice', 'none'],
      ['user', 'get', 'alice'],
      ['user', 'get', 'alice', '--detail'],
      ['user', 'list'],
      ['put', 'open/door', 'x'],
      ['put', 'closed', 'x'],
      ['user', 'grant-role', 'root', 'root'],
      ['auth', 'enable'],
      ['auth', 'status'],
      ['get', 'open/door'],
    ])
      await same(args);
    const alice = { user: 'alice:password' };
    for (const args of [
      ['get', 'open/door'],
      ['get', 'closed'],
      ['put', 'mine', 'x'],
      ['put', 'open/door', 'y'],
      ['get', '', '--prefix'],
      ['del', 'mine'],
      ['user', 'list'],
      ['user', 'get', 'alice'],
      ['role', 'get', 'reader'],
      ['auth', 'disable'],
    ])
      await same(args, alice);
    await same(['get', 'open/door'], { user: 'alice:wrong' });
    await same(['get', 'open/door'], { user: 'nobody:x' });
    const root = { user: 'root:secret' };
    for (const args of [
      ['auth', 'status'],
      ['user', 'passwd', 'alice', '--interactive=false'],
      ['role', 'revoke-permission', 'reader', 'mine'],
      ['role', 'get', 'reader'],
      ['user', 'revoke-role', 'alice', 'reader'],
      ['user', 'delete', 'alice'],
      ['role', 'delete', 'reader'],
      ['user', 'list'],
      ['role', 'list'],
      ['get', 'closed'],
    ])
      await same(args, { ...root, ...(args.includes('passwd') && { input: 'new\n' }) });
    for (const at of [bare.address, store])
      expect((await etcdctl(at, ['auth', 'disable'], root)).code).toBe(0);
    await same(['get', 'closed']);
  });
});

test('none of all this was an internal error', () => {
  expect(kv.warnings).toEqual([]);
});
