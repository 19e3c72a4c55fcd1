/** What each user of one state may do, made once a state. */
import { etcdError } from '../../../lib/etcd/errors.ts';
import type { Access } from './access.ts';
import { fromBase64, hasRoot } from './changes.ts';
import { Intervals } from './intervals.ts';
import { type AuthState, type Permission, roleOf, userOf } from './state.ts';

interface Allowed {
  readonly root: boolean;
  readonly read: Intervals;
  readonly write: Intervals;
}

export class Permissions {
  readonly #state: AuthState;
  readonly #allowed = new Map<string, Allowed>();

  constructor(state: AuthState) {
    this.#state = state;
  }

  /** @throws RpcError "permission denied" */
  check(user: string, accesses: readonly Access[]): void {
    const allowed = this.#of(user);
    if (allowed === undefined) throw etcdError('permissionDenied');
    if (allowed.root) return;
    if (!accesses.every((access) => allowed[access.kind].contains(access)))
      throw etcdError('permissionDenied');
  }

  isRoot(user: string): boolean {
    return this.#of(user)?.root === true;
  }

  #of(name: string): Allowed | undefined {
    const known = this.#allowed.get(name) ?? allowedTo(this.#state, name);
    // Names of no user are not remembered: there is no end of them.
    if (known !== undefined) this.#allowed.set(name, known);
    return known;
  }
}

function allowedTo(state: AuthState, name: string): Allowed | undefined {
  const user = userOf(state, name);
  if (user === undefined) return undefined;
  const permissions = user.roles.flatMap((role) => roleOf(state, role)?.permissions ?? []);
  return { root: hasRoot(user), read: of(permissions, 'write'), write: of(permissions, 'read') };
}

/** The keys of all permissions but those that are for the other kind of access alone. */
function of(permissions: readonly Permission[], other: 'read' | 'write'): Intervals {
  const ranges = permissions.filter(({ type }) => type !== other);
  return new Intervals(
    ranges.map(({ key, rangeEnd }) => ({ key: fromBase64(key), rangeEnd: fromBase64(rangeEnd) })),
  );
}
