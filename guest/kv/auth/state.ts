/** Users and roles of one namespace: one value in etcd, so that each change is one transaction, and each read is of one moment. */
import { type Static, Type } from 'typebox';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { Count, OneOf, parseJson, Strict } from '../../../lib/protocol/schema.ts';

/** A namespace's users and roles, encoded. etcd has no bound of its own; a value has one, and each change writes all of it. */
export const MAX_STATE_BYTES = 256 * 1024;

const Base64 = Type.String({ pattern: '^[A-Za-z0-9+/]*={0,2}$' });

const PermissionSchema = Strict({
  type: OneOf(['read', 'write', 'readwrite']),
  key: Base64,
  rangeEnd: Base64,
});

const UserSchema = Strict({
  name: Type.String(),
  /** As passwords.ts writes it; without one the user has none, and is known by a certificate. */
  password: Type.Optional(Type.String()),
  /** In order. A role that is not there gives nothing. */
  roles: Type.Array(Type.String()),
});

const RoleSchema = Strict({ name: Type.String(), permissions: Type.Array(PermissionSchema) });

const AuthStateSchema = Strict({
  enabled: Type.Boolean(),
  /** Grows with each change, from 1. */
  revision: Count,
  users: Type.Array(UserSchema),
  roles: Type.Array(RoleSchema),
});

export type Permission = Static<typeof PermissionSchema>;
export type User = Static<typeof UserSchema>;
export type Role = Static<typeof RoleSchema>;
export type AuthState = Static<typeof AuthStateSchema>;

/** Of a namespace in which nothing was ever set. */
export const EMPTY: AuthState = { enabled: false, revision: 1, users: [], roles: [] };

export function encodeState(state: AuthState): Uint8Array {
  return utf8(JSON.stringify(state));
}

/** @throws KV_AUTH_STATE */
export function parseState(bytes: Uint8Array): AuthState {
  const text = Buffer.from(bytes).toString();
  return parseJson(AuthStateSchema, text, 'KV_AUTH_STATE', 'the users and roles in etcd', MAX_STATE_BYTES);
}

export function userOf({ users }: AuthState, name: string): User | undefined {
  return users.find((user) => user.name === name);
}

export function roleOf({ roles }: AuthState, name: string): Role | undefined {
  return roles.find((role) => role.name === name);
}
