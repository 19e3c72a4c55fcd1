import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { type EtcdErrorName, etcdError } from '../../../lib/etcd/errors.ts';
import {
  AuthRoleAddRequestSchema,
  AuthRoleDeleteRequestSchema,
  AuthRoleGrantPermissionRequestSchema,
  AuthRoleRevokePermissionRequestSchema,
  AuthUserDeleteRequestSchema,
  AuthUserGrantRoleRequestSchema,
  AuthUserRevokeRoleRequestSchema,
} from '../../../lib/etcd/gen/auth_pb.js';
import { Permission_Type } from '../../../lib/etcd/gen/permission_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import {
  addRole,
  addUser,
  type Change,
  changePassword,
  deleteRole,
  deleteUser,
  disable,
  enable,
  grantPermission,
  grantRole,
  permissionMessage,
  revokePermission,
  revokeRole,
} from './changes.ts';
import { type AuthState, EMPTY, encodeState, parseState } from './state.ts';

const role = (name: string) => addRole(create(AuthRoleAddRequestSchema, { name }));
const noRole = (name: string) => deleteRole(create(AuthRoleDeleteRequestSchema, { role: name }));
const noUser = (name: string) => deleteUser(create(AuthUserDeleteRequestSchema, { name }));
const granted = (user: string, name: string) =>
  grantRole(create(AuthUserGrantRoleRequestSchema, { user, role: name }));
const revoked = (name: string, of: string) =>
  revokeRole(create(AuthUserRevokeRoleRequestSchema, { name, role: of }));
const allowed = (name: string, key: string, end = '', permType = Permission_Type.READ) =>
  grantPermission(
    create(AuthRoleGrantPermissionRequestSchema, {
      name,
      perm: { key: utf8(key), rangeEnd: utf8(end), permType },
    }),
  );
const forbidden = (name: string, key: string, end = '') =>
  revokePermission(
    create(AuthRoleRevokePermissionRequestSchema, { role: name, key: utf8(key), rangeEnd: utf8(end) }),
  );

const made = (...changes: Change[]): AuthState =>
  changes.reduce((state, change) => change(state) ?? state, EMPTY);
const rooted = [addUser('root', 'kept'), granted('root', 'root'), enable];
const refuses = (name: EtcdErrorName, change: Change, ...before: Change[]) =>
  expect(() => change(made(...before))).toThrow(etcdError(name).message);

describe('to enable', () => {
  test('takes a user root with the role root', () => {
    refuses('rootUserNotExist', enable);
    refuses('rootRoleNotExist', enable, addUser('root', 'kept'));
    expect(made(...rooted)).toMatchObject({ enabled: true, revision: 3 });
    expect(enable(made(...rooted))).toBeUndefined();
  });

  test('and what keeps it enabled can’t be taken away meanwhile', () => {
    refuses('invalidAuthManagement', noUser('root'), ...rooted);
    refuses('invalidAuthManagement', revoked('root', 'root'), ...rooted);
    refuses('invalidAuthManagement', noRole('root'), ...rooted);
    expect(made(...rooted, disable, noUser('root'))).toMatchObject({
      enabled: false,
      users: [],
      revision: 5,
    });
    expect(disable(EMPTY)).toBeUndefined();
  });
});

describe('users', () => {
  test('are added once, in order, and deleted', () => {
    expect(made(addUser('b', 'x'), addUser('a', undefined)).users).toEqual([
      { name: 'a', roles: [] },
      { name: 'b', password: 'x', roles: [] },
    ]);
    refuses('userEmpty', addUser('', 'x'));
    refuses('userExists', addUser('a', 'y'), addUser('a', 'x'));
    refuses('userNotFound', noUser('a'));
    expect(made(addUser('a', 'x'), noUser('a')).users).toEqual([]);
  });

  test('get a new password only where they have one', () => {
    expect(made(addUser('a', 'x'), changePassword('a', 'y')).users[0]).toMatchObject({ password: 'y' });
    expect(made(addUser('a', undefined), changePassword('a', 'y')).users[0]).not.toHaveProperty('password');
    refuses('userNotFound', changePassword('a', 'y'));
  });

  test('get roles that are there, root in any case', () => {
    refuses('userNotFound', granted('a', 'r'));
    refuses('roleNotFound', granted('a', 'r'), addUser('a', 'x'));
    expect(
      made(addUser('a', 'x'), role('r'), granted('a', 'r'), granted('a', 'root')).users[0]!.roles,
    ).toEqual(['r', 'root']);
    expect(granted('a', 'r')(made(addUser('a', 'x'), role('r'), granted('a', 'r')))).toBeUndefined();
    refuses('roleNotGranted', revoked('a', 'r'), addUser('a', 'x'), role('r'));
    refuses('userNotFound', revoked('a', 'r'));
  });
});

describe('roles', () => {
  test('are added once, and taken from all when they are deleted', () => {
    refuses('roleEmpty', role(''));
    refuses('roleExists', role('r'), role('r'));
    refuses('roleNotFound', noRole('r'));
    expect(made(addUser('a', 'x'), role('r'), granted('a', 'r'), noRole('r'))).toMatchObject({
      users: [{ roles: [] }],
      roles: [],
    });
  });

  test('have one permission for a range, the last', () => {
    const { roles } = made(
      role('r'),
      allowed('r', 'b'),
      allowed('r', 'a', 'c'),
      allowed('r', 'b', '', Permission_Type.READWRITE),
    );
    expect(roles[0]!.permissions.map(permissionMessage)).toEqual([
      { permType: Permission_Type.READ, key: Buffer.from('a'), rangeEnd: Buffer.from('c') },
      { permType: Permission_Type.READWRITE, key: Buffer.from('b'), rangeEnd: Buffer.from('') },
    ]);
  });

  test('get none that is none', () => {
    refuses(
      'permissionNotGiven',
      grantPermission(create(AuthRoleGrantPermissionRequestSchema, { name: 'r' })),
      role('r'),
    );
    refuses('invalidAuthManagement', allowed('r', 'b', 'a'), role('r'));
    refuses('invalidAuthManagement', allowed('r', ''), role('r'));
    refuses('invalidAuthManagement', allowed('r', 'a', '', 3 as never), role('r'));
    refuses('roleNotFound', allowed('r', 'a'));
  });

  test('lose the permission for exactly that range', () => {
    refuses('permissionNotGranted', forbidden('r', 'a', 'b'), role('r'), allowed('r', 'a', 'c'));
    refuses('roleNotFound', forbidden('r', 'a'));
    expect(made(role('r'), allowed('r', 'a', 'c'), forbidden('r', 'a', 'c')).roles[0]!.permissions).toEqual(
      [],
    );
  });
});

test('each change makes the revision grow by one', () => {
  const all = [
    addUser('a', 'x'),
    role('r'),
    granted('a', 'r'),
    allowed('r', 'a'),
    forbidden('r', 'a'),
    revoked('a', 'r'),
    noRole('r'),
    changePassword('a', 'y'),
    noUser('a'),
  ];
  expect(made(...all).revision).toBe(EMPTY.revision + all.length);
});

test('a namespace has as many users and roles as fit into a value', () => {
  const name = 'x'.repeat(200_000);
  refuses('tooManyRequests', role(`y${name}`), role(name));
  expect(() => role('y')(made(role(name)))).not.toThrow();
});

test('a state is read as it was written, and nothing else is', () => {
  const state = made(
    ...rooted,
    role('r'),
    allowed('r', '\0', '\0', Permission_Type.WRITE),
    addUser('a', undefined),
  );
  expect(parseState(encodeState(state))).toEqual(state);
  expect(() => parseState(utf8('{}'))).toThrow('malformed');
  expect(() => parseState(utf8('{"enabled":false,"enabled":true}'))).toThrow('not JSON');
});
