/** etcd's Auth service: the users and roles of the caller's own namespace. */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import {
  Auth,
  type AuthUserAddRequest,
  type AuthUserChangePasswordRequest,
} from '../../../lib/etcd/gen/auth_pb.js';
import type { ResponseHeader } from '../../../lib/etcd/gen/header_pb.js';
import {
  addRole,
  type Change,
  deleteRole,
  deleteUser,
  grantPermission,
  grantRole,
  permissionMessage,
  revokePermission,
  revokeRole,
  wantRole,
  wantUser,
} from '../auth/changes.ts';
import type { NamespaceAuth } from '../auth/namespace-auth.ts';
import { userOf } from '../auth/state.ts';
import { headerOf } from '../namespace/replies.ts';
import type { Store } from '../namespace/store.ts';
import type { Call, ServedMethod } from '../types.ts';
import { unary } from './method.ts';

type Header = ResponseHeader | undefined;

export function authMethods(store: Store): ServedMethod[] {
  const { method } = Auth;
  const authOf = async (call: Call) => (await store.enter(call)).auth;
  /** A method that changes users or roles, by root. */
  const changes =
    <R>(changeOf: (request: R) => Change) =>
    async (request: R, call: Call) =>
      answer(await (await authOf(call)).change(call, changeOf(request)));
  /** A method that reads them as they are now. */
  const reads =
    <R, A extends object>(read: (auth: NamespaceAuth, request: R, call: Call) => A) =>
    async (request: R, call: Call) => {
      const auth = await authOf(call);
      const header = await auth.refresh(call);
      return { ...answer(header), ...read(auth, request, call) };
    };

  return [
    unary(method.authEnable, async (_, call) => answer(await (await authOf(call)).enable(call))),
    unary(method.authDisable, async (_, call) => answer(await (await authOf(call)).disable(call))),
    unary(
      method.authStatus,
      reads((auth, _, call) => {
        auth.requireRoot(call);
        return { enabled: auth.state.enabled, authRevision: BigInt(auth.state.revision) };
      }),
    ),
    unary(method.authenticate, async (request, call) => {
      const { header, token } = await (await authOf(call)).authenticate(call, request);
      return { ...answer(header), token };
    }),
    unary(method.userAdd, async (request, call) => answer(await addUser(await authOf(call), request, call))),
    unary(
      method.userGet,
      reads((auth, { name }, call) => {
        if (auth.userOf(call) !== name) auth.requireRoot(call);
        return { roles: wantUser(auth.state, name).roles };
      }),
    ),
    unary(
      method.userList,
      reads((auth, _, call) => {
        auth.requireRoot(call);
        return { users: auth.state.users.map(({ name }) => name) };
      }),
    ),
    unary(method.userDelete, changes(deleteUser)),
    unary(method.userChangePassword, async (request, call) =>
      answer(await changePassword(await authOf(call), request, call)),
    ),
    unary(method.userGrantRole, changes(grantRole)),
    unary(method.userRevokeRole, changes(revokeRole)),
    unary(method.roleAdd, changes(addRole)),
    unary(
      method.roleGet,
      reads((auth, { role }, call) => {
        if (!hasRole(auth, call, role)) auth.requireRoot(call);
        return { perm: wantRole(auth.state, role).permissions.map(permissionMessage) };
      }),
    ),
    unary(
      method.roleList,
      reads((auth, _, call) => {
        auth.requireRoot(call);
        return { roles: auth.state.roles.map(({ name }) => name) };
      }),
    ),
    unary(method.roleDelete, changes(deleteRole)),
    unary(method.roleGrantPermission, changes(grantPermission)),
    unary(method.roleRevokePermission, changes(revokePermission)),
  ];
}

function answer(header: Header) {
  return headerOf({ header });
}

function addUser(
  auth: NamespaceAuth,
  { name, password, options, hashedPassword }: AuthUserAddRequest,
  call: Call,
): Promise<Header> {
  refuseHashed(hashedPassword);
  return auth.addUser(call, name, options?.noPassword ? undefined : password);
}

function changePassword(
  auth: NamespaceAuth,
  { name, password, hashedPassword }: AuthUserChangePasswordRequest,
  call: Call,
): Promise<Header> {
  refuseHashed(hashedPassword);
  return auth.changePassword(call, name, password);
}

/** etcd takes bcrypt's there, between its own members. */
function refuseHashed(hashed: string): void {
  if (hashed.length > 0)
    throw new RpcError(
      status.invalidArgument,
      'etcdserver: a hashed password is not taken; send the password',
    );
}

function hasRole(auth: NamespaceAuth, call: Call, role: string): boolean {
  const name = auth.userOf(call);
  return name !== undefined && userOf(auth.state, name)?.roles.includes(role) === true;
}
