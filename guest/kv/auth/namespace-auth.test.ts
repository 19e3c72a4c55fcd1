/** Everything that etcd 3.5.16 lets pass with its own users and roles on is tried here, and refused. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type EtcdErrorName, etcdError, RpcError, type Status } from '../../../lib/etcd/errors.ts';
import { Auth } from '../../../lib/etcd/gen/auth_pb.js';
import { KV, type RequestOpSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { AlarmRequest_AlarmAction, AlarmType } from '../../../lib/etcd/gen/maintenance_pb.js';
import { Permission_Type } from '../../../lib/etcd/gen/permission_pb.js';
import { bytesOf, textOf } from '../../../test/support/etcd.ts';
import { authMethods } from '../api/auth.ts';
import { clusterMethods } from '../api/cluster.ts';
import { maintenanceMethods } from '../api/maintenance.ts';
import { keepAlive } from '../namespace/keep-alives.ts';
import { authKey } from '../namespace/own-keys.ts';
import { type By, type Client, callOf, clientOf, refusalOf, startStore } from '../namespace/store.fixture.ts';
import type { Store } from '../namespace/store.ts';
import type { Call } from '../types.ts';

type Op = MessageInitShape<typeof RequestOpSchema>;

const PREFIX = 'a/one/';
const SECRET = 'a secret';

let world: Awaited<ReturnType<typeof startStore>>;
let store: Store;
let nobody: Client;
let root: Client;
let alice: Client;

const message = (name: EtcdErrorName) => etcdError(name).message;

/** A method of the Auth service, as the server calls it. */
function call<N extends keyof typeof Auth.method>(
  name: N,
  request: object,
  by: By = {},
  of = store,
): Promise<Record<string, unknown>> {
  const { input } = Auth.method[name];
  const served = authMethods(of).find(({ method }) => method === Auth.method[name]);
  if (served?.kind !== 'unary') throw new Error(`${name} is not served`);
  return served.handle(create(input, request), callOf(PREFIX, by)) as Promise<Record<string, unknown>>;
}

const tokenOf = async (name: string, password = SECRET, of = store) =>
  (await call('authenticate', { name, password }, {}, of)).token as string;
const permission = (key: string, rangeEnd: string, permType: Permission_Type) => ({
  key: bytesOf(key),
  rangeEnd: bytesOf(rangeEnd),
  permType,
});

/** Alice reads and writes `w/`, reads `r/`. Carol is known by her certificate. */
beforeAll(async () => {
  world = await startStore();
  store = world.store;
  nobody = clientOf(store, callOf(PREFIX));
  for (const name of ['root', 'alice', 'bob']) await call('userAdd', { name, password: SECRET });
  await call('userAdd', { name: 'carol', options: { noPassword: true } });
  await call('roleAdd', { name: 'work' });
  await call('roleGrantPermission', {
    name: 'work',
    perm: permission('w/', 'w0', Permission_Type.READWRITE),
  });
  await call('roleGrantPermission', { name: 'work', perm: permission('r/', 'r0', Permission_Type.READ) });
  await call('roleGrantPermission', { name: 'work', perm: permission('blind', '', Permission_Type.WRITE) });
  for (const user of ['alice', 'carol']) await call('userGrantRole', { user, role: 'work' });
  await call('userGrantRole', { user: 'root', role: 'root' });
  for (const key of ['w/1', 'r/1', 'secret', 'blind']) await nobody.put(key, `of ${key}`);
  await call('authEnable', {});
  root = clientOf(store, callOf(PREFIX, { token: await tokenOf('root') }));
  alice = clientOf(store, callOf(PREFIX, { token: await tokenOf('alice') }));
});

afterAll(() => world.stop());

const put = (key: string, more: object = {}) =>
  ({ request: { case: 'requestPut', value: { key: bytesOf(key), ...more } } }) as const;
const get = (key: string) => ({ request: { case: 'requestRange', value: { key: bytesOf(key) } } }) as const;

describe('who calls', () => {
  test('has a token, or a certificate, or nothing', async () => {
    expect(await refusalOf(nobody.range('w/1'))).toBe(message('userEmpty'));
    expect(await refusalOf(clientOf(store, callOf(PREFIX, { token: 'x.1' })).range('w/1'))).toBe(
      message('invalidAuthToken'),
    );
    expect(await refusalOf(clientOf(store, callOf(PREFIX, { token: '' })).range('w/1'))).toBe(
      message('invalidAuthToken'),
    );
    const carol = clientOf(store, callOf(PREFIX, { commonName: 'carol' }));
    expect((await carol.range('w/1')).count).toBe(1n);
    expect(await refusalOf(carol.range('secret'))).toBe(message('permissionDenied'));
    const token = await tokenOf('bob');
    expect(
      await refusalOf(clientOf(store, callOf(PREFIX, { token, commonName: 'carol' })).range('w/1')),
    ).toBe(message('permissionDenied'));
    expect(await refusalOf(clientOf(store, callOf(PREFIX, { commonName: 'mallory' })).range('w/1'))).toBe(
      message('permissionDenied'),
    );
  });

  test('is not told whether there is a user, nor whether it has a password', async () => {
    for (const [name, password] of [
      ['alice', 'wrong'],
      ['mallory', SECRET],
      ['carol', SECRET],
      ['carol', ''],
      ['', ''],
    ])
      expect(await refusalOf(call('authenticate', { name, password }))).toBe(message('authFailed'));
  });

  test('is somebody in its own namespace alone', async () => {
    const { token } = alice.call;
    expect((await clientOf(store, callOf('a/two/', { token })).range('w/1')).count).toBe(0n);
  });
});

describe('a user', () => {
  test('reads and writes what it may', async () => {
    expect(textOf((await alice.range('r/', 'r0')).kvs![0]!.value!)).toBe('of r/1');
    expect(textOf((await alice.put('w/1', 'new', { prevKv: true })).prevKv!.value!)).toBe('of w/1');
    expect((await alice.remove('w/', 'w0', { prevKv: true })).deleted).toBe(1n);
    expect((await alice.txn({ compare: [{ key: bytesOf('r/1') }], failure: [put('w/1')] })).succeeded).toBe(
      false,
    );
    const { header } = await alice.range('w/1');
    expect(header?.clusterId).not.toBe(0n);
  });

  test('does not read or write anything else', async () => {
    const denied = [
      () => alice.range('secret'),
      () => alice.range('\0', '\0'),
      () => alice.range('r/', '\0'),
      () => alice.put('r/1'),
      () => alice.remove('r/1'),
      () => alice.remove('w/', '\0'),
      () => alice.put('blind', 'v', { prevKv: true }),
      () => alice.remove('blind', '', { prevKv: true }),
      () => alice.txn({ compare: [{ key: bytesOf('secret') }] }),
      () => alice.txn({ failure: [get('secret')] }),
    ];
    for (const one of denied) expect(await refusalOf(one())).toBe(message('permissionDenied'));
    expect((await alice.put('blind')).prevKv).toBeUndefined();
  });

  test('does not by a transaction in a transaction', async () => {
    const nested = (...success: (ReturnType<typeof put> | ReturnType<typeof get>)[]) =>
      ({ request: { case: 'requestTxn', value: { success } } }) as const;
    for (const operation of [put('secret'), get('secret'), put('blind', { prevKv: true })])
      expect(await refusalOf(alice.txn({ success: [nested(operation)] }))).toBe(message('permissionDenied'));
    const compared: Op = {
      request: { case: 'requestTxn', value: { compare: [{ key: bytesOf('secret') }] } },
    };
    expect(await refusalOf(alice.txn({ success: [compared] }))).toBe(message('permissionDenied'));
    expect(textOf((await root.range('secret')).kvs![0]!.value!)).toBe('of secret');
  });

  test('does not compact, and nobody does anything without a name', async () => {
    const { header } = await root.range('w/1');
    expect(await refusalOf(alice.compact(header!.revision!))).toBe(message('permissionDenied'));
    for (const one of [
      () => nobody.compact(1n),
      () => nobody.leases(),
      () => nobody.grant(),
      () => nobody.revoke(1n),
      () => nobody.timeToLive(1n, false),
      () => keepAlive(store, nobody.call, 1n),
    ])
      expect(await refusalOf(one())).toBe(message('userEmpty'));
    expect(await refusalOf(root.compact(header!.revision! - 1n))).toBe('accepted');
  });

  test('does not revoke, or attach to, a lease whose keys it may not write', async () => {
    const { ID = 0n } = await alice.grant();
    await alice.put('w/leased', 'v', { lease: ID });
    expect((await alice.timeToLive(ID)).keys).toHaveLength(1);
    await root.put('secret/leased', 'v', { lease: ID });
    expect(await refusalOf(alice.put('w/leased', 'v', { lease: ID }))).toBe(message('permissionDenied'));
    expect(await refusalOf(alice.txn({ success: [put('w/leased', { lease: ID })] }))).toBe(
      message('permissionDenied'),
    );
    expect(
      await refusalOf(
        alice.txn({
          success: [
            { request: { case: 'requestTxn', value: { success: [put('w/leased', { lease: ID })] } } },
          ],
        }),
      ),
    ).toBe(message('permissionDenied'));
    expect(await refusalOf(alice.revoke(ID))).toBe(message('permissionDenied'));
    expect(await refusalOf(alice.timeToLive(ID))).toBe(message('permissionDenied'));
    expect(await refusalOf(alice.timeToLive(ID, false))).toBe('accepted');
    expect((await root.range('secret/leased')).count).toBe(1n);
    expect(await refusalOf(root.revoke(ID))).toBe('accepted');
  });

  test('does not change users and roles, and sees its own', async () => {
    const by = { token: alice.call.token };
    const denied: [keyof typeof Auth.method, object][] = [
      ['authEnable', {}],
      ['authDisable', {}],
      ['authStatus', {}],
      ['userAdd', { name: 'eve', password: 'x' }],
      ['userDelete', { name: 'bob' }],
      ['userChangePassword', { name: 'alice', password: 'x' }],
      ['userGrantRole', { user: 'alice', role: 'root' }],
      ['userRevokeRole', { name: 'alice', role: 'work' }],
      ['userGet', { name: 'bob' }],
      ['userList', {}],
      ['roleAdd', { name: 'x' }],
      ['roleDelete', { role: 'work' }],
      ['roleGet', { role: 'root' }],
      ['roleList', {}],
      ['roleGrantPermission', { name: 'work', perm: permission('x', '', Permission_Type.READ) }],
      ['roleRevokePermission', { role: 'work', key: bytesOf('blind') }],
    ];
    for (const [name, request] of denied) {
      expect([name, await refusalOf(call(name, request, by))]).toEqual([name, message('permissionDenied')]);
      expect([name, await refusalOf(call(name, request))]).toEqual([name, message('userEmpty')]);
    }
    expect(await call('userGet', { name: 'alice' }, by)).toMatchObject({ roles: ['work'] });
    expect((await call('roleGet', { role: 'work' }, by)).perm).toHaveLength(3);
  });
});

test('nobody sees or touches what is of no key, and of the owner’s users only root maintains it', async () => {
  const served = [...clusterMethods(store, () => []), ...maintenanceMethods(store)];
  const ask = (name: string, request: Record<string, unknown>, by: By, owner: boolean) => {
    const found = served.find(({ method }) => method.name === name)!;
    const call = callOf(PREFIX, by);
    const handle = found.handle as never as (request: object, call: Call) => Promise<unknown>;
    return refusalOf(
      handle(create(found.method.input, request), { ...call, caller: { ...call.caller, owner } }),
    );
  };
  const [asAlice, asRoot] = [{ token: alice.call.token }, { token: root.call.token }];
  expect(await ask('MemberList', {}, {}, false)).toBe(message('userEmpty'));
  expect(await ask('MemberList', {}, asAlice, false)).toBe('accepted');
  expect(await ask('Status', {}, {}, false)).toBe(message('userEmpty'));
  const alarm = { action: AlarmRequest_AlarmAction.ACTIVATE, alarm: AlarmType.NOSPACE };
  for (const [name, request] of [
    ['Alarm', alarm],
    ['Hash', {}],
    ['HashKV', {}],
    ['Defragment', {}],
  ] as const) {
    expect(await ask(name, request, {}, true)).toBe(message('userEmpty'));
    expect(await ask(name, request, asAlice, true)).toBe(message('permissionDenied'));
    expect(await ask(name, request, asRoot, false)).toBe(message('permissionDenied'));
  }
  expect(await ask('Hash', {}, asRoot, true)).toBe('accepted');
});

describe('root', () => {
  const by = () => ({ token: root.call.token });

  test('sees all, and each change by its revision', async () => {
    expect(await call('userList', {}, by())).toMatchObject({ users: ['alice', 'bob', 'carol', 'root'] });
    expect(await call('roleList', {}, by())).toMatchObject({ roles: ['work'] });
    const { authRevision } = await call('authStatus', {}, by());
    await call('roleAdd', { name: 'other' }, by());
    expect(await call('authStatus', {}, by())).toMatchObject({
      enabled: true,
      authRevision: (authRevision as bigint) + 1n,
    });
    expect(await refusalOf(call('roleAdd', { name: 'other' }, by()))).toBe(message('roleExists'));
    await call('roleDelete', { role: 'other' }, by());
    expect(await refusalOf(call('userDelete', { name: 'root' }, by()))).toBe(
      message('invalidAuthManagement'),
    );
  });

  test('ends a user’s tokens with its password, and with it', async () => {
    const token = await tokenOf('bob');
    await call('userChangePassword', { name: 'bob', password: 'another' }, by());
    expect(await refusalOf(clientOf(store, callOf(PREFIX, { token })).leases())).toBe(
      message('invalidAuthToken'),
    );
    expect(await refusalOf(tokenOf('bob'))).toBe(message('authFailed'));
    const next = await tokenOf('bob', 'another');
    await call('userDelete', { name: 'bob' }, by());
    expect(await refusalOf(clientOf(store, callOf(PREFIX, { token: next })).leases())).toBe(
      message('invalidAuthToken'),
    );
  });

  test('does not give a password that it hashed itself', async () => {
    expect(await refusalOf(call('userAdd', { name: 'eve', hashedPassword: 'JDJh' }, by()))).toMatch(
      'not taken',
    );
    expect(
      await refusalOf(call('userChangePassword', { name: 'alice', hashedPassword: 'JDJh' }, by())),
    ).toMatch('not taken');
  });

  test('finds it all after a restart, but for the tokens', async () => {
    const again = await world.reopened();
    expect(await refusalOf(clientOf(again, alice.call).range('w/1'))).toBe(message('invalidAuthToken'));
    const token = await tokenOf('alice', SECRET, again);
    expect(await refusalOf(clientOf(again, callOf(PREFIX, { token })).range('secret'))).toBe(
      message('permissionDenied'),
    );
    expect(await refusalOf(clientOf(again, callOf(PREFIX, { token })).range('w/1'))).toBe('accepted');
  });
});

describe('what is done by a permission that is gone', () => {
  test('is not done: another node’s change is seen by etcd', async () => {
    const other = await world.reopened();
    const token = await tokenOf('root', SECRET, other);
    const change = (name: 'roleRevokePermission' | 'roleGrantPermission', request: object) =>
      call(name, request, { token }, other);
    const range = { key: bytesOf('w/'), rangeEnd: bytesOf('w0') };
    await change('roleRevokePermission', { role: 'work', ...range });
    // This store has not heard of it.
    for (const one of [
      () => alice.put('w/1'),
      () => alice.range('w/1'),
      () => alice.remove('w/1'),
      () => alice.txn({ success: [put('w/1')] }),
    ])
      expect(await refusalOf(one())).toBe(message('permissionDenied'));
    await change('roleGrantPermission', {
      name: 'work',
      perm: { ...range, permType: Permission_Type.READWRITE },
    });
    expect(await refusalOf(alice.put('w/1'))).toBe('accepted');
  });

  test('is an error after some changes in the way', async () => {
    const space = store.spaceOf(alice.call.caller);
    const key = authKey(space);
    // The state is written anew whenever it was read: no guard ever holds.
    const restless = {
      ...world.upstream,
      stream: world.upstream.stream.bind(world.upstream),
      unary: (async (method: never, request: { compare?: unknown[] }, options: never) => {
        if (request.compare !== undefined) {
          const { kvs } = await world.upstream.unary(KV.method.range, { key });
          await world.upstream.unary(KV.method.put, { key, value: kvs[0]!.value });
        }
        return world.upstream.unary(method, request as never, options);
      }) as typeof world.upstream.unary,
    };
    const { Store } = await import('../namespace/store.ts');
    const { Passwords } = await import('./passwords.ts');
    const disturbed = await Store.open(restless, { durable: () => 0n, passwords: new Passwords(4) });
    const token = await tokenOf('alice', SECRET, disturbed);
    expect(await refusalOf(clientOf(disturbed, callOf(PREFIX, { token })).put('w/1'))).toBe(
      message('authOldRevision'),
    );
    const rootToken = await tokenOf('root', SECRET, disturbed);
    expect(await refusalOf(call('roleAdd', { name: 'x' }, { token: rootToken }, disturbed))).toBe(
      message('authOldRevision'),
    );
  });
});

test('codes are etcd’s', async () => {
  const codeOf = async (refused: Promise<unknown>): Promise<Status | undefined> => {
    const error = await refused.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return error instanceof RpcError ? error.status : undefined;
  };
  expect(await codeOf(nobody.range('w/1'))).toBe(3);
  expect(await codeOf(alice.range('secret'))).toBe(7);
  expect(await codeOf(clientOf(store, callOf(PREFIX, { token: 'x' })).range('w/1'))).toBe(16);
});

test('a change of users or roles waits for room as a put does', async () => {
  const asked: number[] = [];
  store.intake = {
    run: (_space, bytes, run) => {
      asked.push(bytes);
      return run();
    },
  };
  try {
    await call('roleAdd', { name: 'late' }, { token: root.call.token });
  } finally {
    store.intake = undefined;
  }
  expect(asked).toHaveLength(1);
  expect(asked[0]).toBeGreaterThan(100);
});

test('a change of users or roles is refused where the disk is nearly full, as a put is', async () => {
  store.disk = { isFull: true };
  try {
    // Each writes all of them anew, what is taken away too.
    for (const change of ['roleAdd', 'roleDelete'] as const)
      expect(await refusalOf(call(change, { name: 'later', role: 'work' }, { token: root.call.token }))).toBe(
        message('noSpace'),
      );
  } finally {
    store.disk = undefined;
  }
});

test('without users again, everybody may do everything', async () => {
  await call('authDisable', {}, { token: root.call.token });
  expect(await refusalOf(nobody.put('secret'))).toBe('accepted');
  expect(await refusalOf(call('authenticate', { name: 'root', password: SECRET }))).toBe(
    message('authNotEnabled'),
  );
  expect(await call('authStatus', {})).toMatchObject({ enabled: false });
});
