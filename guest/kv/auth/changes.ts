/**
 * What each request of etcd's Auth service makes of the users and roles: pure functions from one state to the next, with etcd's
 * refusals. `undefined` where etcd answers with success and changes nothing.
 */

import { etcdError } from '../../../lib/etcd/errors.ts';
import type {
  AuthRoleAddRequest,
  AuthRoleDeleteRequest,
  AuthRoleGrantPermissionRequest,
  AuthRoleRevokePermissionRequest,
  AuthUserDeleteRequest,
  AuthUserGrantRoleRequest,
  AuthUserRevokeRoleRequest,
} from '../../../lib/etcd/gen/auth_pb.js';
import {
  Permission_Type,
  type Permission as PermissionMessage,
} from '../../../lib/etcd/gen/permission_pb.js';
import { isValidRange } from './intervals.ts';
import {
  type AuthState,
  encodeState,
  MAX_STATE_BYTES,
  type Permission,
  type Role,
  roleOf,
  type User,
  userOf,
} from './state.ts';

/** The user and the role that may do everything. */
export const ROOT = 'root';

export type Change = (state: AuthState) => AuthState | undefined;

export const enable: Change = (state) => {
  if (state.enabled) return undefined;
  const root = userOf(state, ROOT);
  if (root === undefined) throw etcdError('rootUserNotExist');
  if (!hasRoot(root)) throw etcdError('rootRoleNotExist');
  // As etcd: the revision does not grow here.
  return { ...state, enabled: true };
};

export const disable: Change = (state) => (state.enabled ? grown({ ...state, enabled: false }) : undefined);

/** @param password as it is kept; undefined for a user without one */
export function addUser(name: string, password: string | undefined): Change {
  return (state) => {
    if (name.length === 0) throw etcdError('userEmpty');
    if (userOf(state, name) !== undefined) throw etcdError('userExists');
    const user: User = { name, ...(password !== undefined && { password }), roles: [] };
    return grown({ ...state, users: [...state.users, user].sort(byName) });
  };
}

export function deleteUser({ name }: AuthUserDeleteRequest): Change {
  return (state) => {
    if (state.enabled && name === ROOT) throw etcdError('invalidAuthManagement');
    wantUser(state, name);
    return grown({ ...state, users: state.users.filter((user) => user.name !== name) });
  };
}

/** A user that has no password does not get one, as with etcd. */
export function changePassword(name: string, password: string): Change {
  return (state) => {
    const user = wantUser(state, name);
    return withUser(state, user.password === undefined ? user : { ...user, password });
  };
}

export function grantRole({ user: name, role }: AuthUserGrantRoleRequest): Change {
  return (state) => {
    const user = wantUser(state, name);
    if (role !== ROOT) wantRole(state, role);
    if (user.roles.includes(role)) return undefined;
    return withUser(state, { ...user, roles: [...user.roles, role].sort() });
  };
}

export function revokeRole({ name, role }: AuthUserRevokeRoleRequest): Change {
  return (state) => {
    if (state.enabled && name === ROOT && role === ROOT) throw etcdError('invalidAuthManagement');
    const user = wantUser(state, name);
    if (!user.roles.includes(role)) throw etcdError('roleNotGranted');
    return withUser(state, { ...user, roles: user.roles.filter((one) => one !== role) });
  };
}

export function addRole({ name }: AuthRoleAddRequest): Change {
  return (state) => {
    if (name.length === 0) throw etcdError('roleEmpty');
    if (roleOf(state, name) !== undefined) throw etcdError('roleExists');
    return grown({ ...state, roles: [...state.roles, { name, permissions: [] }].sort(byName) });
  };
}

export function deleteRole({ role: name }: AuthRoleDeleteRequest): Change {
  return (state) => {
    if (state.enabled && name === ROOT) throw etcdError('invalidAuthManagement');
    wantRole(state, name);
    const users = state.users.map((user) => ({ ...user, roles: user.roles.filter((role) => role !== name) }));
    return grown({ ...state, users, roles: state.roles.filter((role) => role.name !== name) });
  };
}

export function grantPermission({ name, perm }: AuthRoleGrantPermissionRequest): Change {
  return (state) => {
    if (perm === undefined) throw etcdError('permissionNotGiven');
    if (!isValidRange(perm)) throw etcdError('invalidAuthManagement');
    const granted = permissionOf(perm);
    const role = wantRole(state, name);
    const others = role.permissions.filter((one) => !isSameRange(one, granted));
    return withRole(state, { ...role, permissions: [...others, granted].sort(byKey) });
  };
}

export function revokePermission({ role: name, key, rangeEnd }: AuthRoleRevokePermissionRequest): Change {
  return (state) => {
    const role = wantRole(state, name);
    const revoked = { key: toBase64(key), rangeEnd: toBase64(rangeEnd) };
    const permissions = role.permissions.filter((one) => !isSameRange(one, revoked));
    if (permissions.length === role.permissions.length) throw etcdError('permissionNotGranted');
    return withRole(state, { ...role, permissions });
  };
}

export function hasRoot({ roles }: User): boolean {
  return roles.includes(ROOT);
}

/** @throws RpcError "user name not found" */
export function wantUser(state: AuthState, name: string): User {
  const user = userOf(state, name);
  if (user === undefined) throw etcdError('userNotFound');
  return user;
}

/** @throws RpcError "role name not found" */
export function wantRole(state: AuthState, name: string): Role {
  const role = roleOf(state, name);
  if (role === undefined) throw etcdError('roleNotFound');
  return role;
}

function withUser(state: AuthState, user: User): AuthState {
  return grown({ ...state, users: state.users.map((one) => (one.name === user.name ? user : one)) });
}

function withRole(state: AuthState, role: Role): AuthState {
  return grown({ ...state, roles: state.roles.map((one) => (one.name === role.name ? role : one)) });
}

/** @throws RpcError "too many requests" for more users and roles than are kept */
function grown(state: AuthState): AuthState {
  const next = { ...state, revision: state.revision + 1 };
  if (encodeState(next).length > MAX_STATE_BYTES) throw etcdError('tooManyRequests');
  return next;
}

const types = {
  [Permission_Type.READ]: 'read',
  [Permission_Type.WRITE]: 'write',
  [Permission_Type.READWRITE]: 'readwrite',
} as const;

function permissionOf({ permType, key, rangeEnd }: PermissionMessage): Permission {
  const type = types[permType];
  if (type === undefined) throw etcdError('invalidAuthManagement');
  return { type, key: toBase64(key), rangeEnd: toBase64(rangeEnd) };
}

/** A permission as etcd's message has it. */
export function permissionMessage({ type, key, rangeEnd }: Permission) {
  const permType = {
    read: Permission_Type.READ,
    write: Permission_Type.WRITE,
    readwrite: Permission_Type.READWRITE,
  }[type];
  return { permType, key: fromBase64(key), rangeEnd: fromBase64(rangeEnd) };
}

function isSameRange(a: Omit<Permission, 'type'>, b: Omit<Permission, 'type'>): boolean {
  return a.key === b.key && a.rangeEnd === b.rangeEnd;
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

function byKey(a: Permission, b: Permission): number {
  return Buffer.compare(fromBase64(a.key), fromBase64(b.key));
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

export function fromBase64(text: string): Buffer {
  return Buffer.from(text, 'base64');
}
