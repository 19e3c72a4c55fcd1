/**
 * Users and roles of one namespace: who a call is by, what it may do, and changes. The state is one value in etcd, changed by
 * transactions that hold only if it is still what was read. What a permission allowed carries a guard: a comparison that etcd makes in
 * the same transaction, so that nothing is done by a permission that is gone.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { etcdError } from '../../../lib/etcd/errors.ts';
import type { ResponseHeader } from '../../../lib/etcd/gen/header_pb.js';
import { Compare_CompareTarget, type CompareSchema, KV } from '../../../lib/etcd/gen/kv_pb.js';
import type { Intake } from '../namespace/intake.ts';
import type { Keyspace } from '../namespace/keyspace.ts';
import { authKey } from '../namespace/own-keys.ts';
import type { Call, Upstream, UpstreamOptions } from '../types.ts';
import type { Access } from './access.ts';
import { addUser, type Change, changePassword, disable, enable, hasRoot } from './changes.ts';
import type { Passwords } from './passwords.ts';
import { Permissions } from './permissions.ts';
import { type AuthState, EMPTY, encodeState, parseState, userOf } from './state.ts';
import { Tokens } from './tokens.ts';

/** What etcd has to find unchanged for an authorised request to be done. */
export type Guard = MessageInitShape<typeof CompareSchema>;

/** How often a change is tried again that another one came before. */
const ATTEMPTS = 10;

type Header = ResponseHeader | undefined;

export class NamespaceAuth {
  readonly #space: Keyspace;
  readonly #key: Uint8Array;
  readonly #upstream: Upstream;
  readonly #passwords: Passwords;
  readonly #admit: Intake['run'];
  readonly #tokens = new Tokens();
  readonly #listeners = new Set<() => void>();
  #state = EMPTY;
  #permissions = new Permissions(EMPTY);
  /** Of the key that holds the state; 0 while there is none. Undefined until it was read. */
  #modRevision: bigint | undefined;

  constructor(space: Keyspace, upstream: Upstream, passwords: Passwords, admit: Intake['run']) {
    this.#space = space;
    this.#key = authKey(space);
    this.#upstream = upstream;
    this.#passwords = passwords;
    this.#admit = admit;
  }

  get state(): AuthState {
    return this.#state;
  }

  /** Reads the state as it is now. */
  async refresh(options?: UpstreamOptions): Promise<Header> {
    const { header, kvs } = await this.#upstream.unary(KV.method.range, { key: this.#key }, options);
    const [kv] = kvs;
    this.#take(kv === undefined ? EMPTY : parseState(kv.value), kv?.modRevision ?? 0n);
    return header;
  }

  /** The state at some moment since the process began; a guard tells if it is no longer so. */
  async ready(options?: UpstreamOptions): Promise<void> {
    if (this.#modRevision === undefined) await this.refresh(options);
  }

  #take(state: AuthState, modRevision: bigint): void {
    // Answers may come in another order than etcd gave them.
    if (this.#modRevision !== undefined && modRevision <= this.#modRevision) return;
    this.#endTokens(state);
    this.#state = state;
    this.#permissions = new Permissions(state);
    this.#modRevision = modRevision;
    for (const listener of this.#listeners) listener();
  }

  /** Of all users, when there shall be none; of those who are gone, or have another password. */
  #endTokens(next: AuthState): void {
    if (!next.enabled) this.#tokens.endAll();
    const passwords = new Map(next.users.map(({ name, password }) => [name, password]));
    for (const { name, password } of this.#state.users)
      if (passwords.get(name) !== password) this.#tokens.endUser(name);
  }

  /** Calls back after each change, until it is told to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Whether these accesses are allowed to who calls.
   *
   * @returns what to compare in the transaction that does it; nothing where there are no users
   * @throws RpcError "invalid auth token", "user name is empty", "permission denied"
   */
  authorize(call: Call, accesses: readonly Access[]): Guard | undefined {
    const user = this.userOf(call);
    if (user === undefined) return undefined;
    this.#permissions.check(user, accesses);
    return this.#guard();
  }

  #guard(): Guard {
    return {
      key: this.#key,
      target: Compare_CompareTarget.MOD,
      targetUnion: { case: 'modRevision', value: this.#modRevision ?? 0n },
    };
  }

  /**
   * Who calls; undefined where there are no users. A token goes before a certificate.
   *
   * @throws RpcError "invalid auth token", "user name is empty" for nobody, "permission denied" from outside where there are no users
   */
  userOf({ token, caller }: Call): string | undefined {
    if (!this.#state.enabled && caller.outside === true) throw etcdError('permissionDenied');
    if (!this.#state.enabled) return undefined;
    if (token !== undefined) {
      const user = this.#tokens.userOf(token);
      if (user === undefined) throw etcdError('invalidAuthToken');
      return user;
    }
    if (caller.commonName === undefined) throw etcdError('userEmpty');
    return caller.commonName;
  }

  /** Whether it is by root, or there are no users. @throws as `userOf` */
  isRoot(call: Call): boolean {
    const user = this.userOf(call);
    return user === undefined || this.#permissions.isRoot(user);
  }

  /** @throws RpcError for a call by nobody that the namespace knows */
  requireUser(call: Call): void {
    const user = this.userOf(call);
    if (user !== undefined && userOf(this.#state, user) === undefined) throw etcdError('permissionDenied');
  }

  /** @throws RpcError for a call by anyone but root */
  requireRoot(call: Call): void {
    const name = this.userOf(call);
    if (name === undefined) return;
    const user = userOf(this.#state, name);
    if (user === undefined) throw etcdError('userNotFound');
    if (!hasRoot(user)) throw etcdError('permissionDenied');
  }

  enable(call: Call): Promise<Header> {
    return this.change(call, enable);
  }

  disable(call: Call): Promise<Header> {
    return this.change(call, disable);
  }

  /** @param password undefined for a user that is known by a certificate only */
  async addUser(call: Call, name: string, password: string | undefined): Promise<Header> {
    await this.#rootOnly(call);
    return this.change(
      call,
      addUser(
        name,
        password === undefined ? undefined : await this.#passwords.hash(password, this.#space.id),
      ),
    );
  }

  async changePassword(call: Call, name: string, password: string): Promise<Header> {
    await this.#rootOnly(call);
    return this.change(call, changePassword(name, await this.#passwords.hash(password, this.#space.id)));
  }

  /** Before a password is hashed: nobody else may make it cost anything. */
  async #rootOnly(call: Call): Promise<void> {
    await this.refresh(call);
    this.requireRoot(call);
  }

  /**
   * Changes the state, by root. Returns the header of what was written, or of what was read if nothing changes.
   *
   * @throws RpcError as etcd
   */
  async change(call: Call, change: Change): Promise<Header> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const read = await this.refresh(call);
      this.requireRoot(call);
      const next = change(this.#state);
      if (next === undefined) return read;
      const put = { key: this.#key, value: encodeState(next) };
      const request = {
        compare: [this.#guard()],
        success: [{ request: { case: 'requestPut' as const, value: put } }],
      };
      const reply = await this.#admit(
        this.#space,
        put.key.length + put.value.length,
        () => this.#upstream.unary(KV.method.txn, request, call),
        call,
      );
      if (!reply.succeeded) continue;
      this.#take(next, reply.header?.revision ?? 0n);
      return reply.header;
    }
    throw etcdError('authOldRevision');
  }

  /**
   * A token for a user who knows the password.
   *
   * @throws RpcError "authentication is not enabled", "authentication failed, invalid user ID or password"
   */
  async authenticate(
    call: Call,
    { name, password }: { readonly name: string; readonly password: string },
  ): Promise<{ header: Header; token: string }> {
    for (;;) {
      const header = await this.refresh(call);
      if (!this.#state.enabled) throw etcdError('authNotEnabled');
      const { revision } = this.#state;
      const kept = userOf(this.#state, name)?.password;
      if (!(await this.#passwords.matches(password, kept, this.#space.id))) throw etcdError('authFailed');
      // The password may have been changed while it was compared.
      await this.refresh(call);
      if (this.#state.revision === revision && this.#state.enabled)
        return { header, token: this.#tokens.assign(name) };
    }
  }
}

/** All namespaces'. */
export class Auths {
  readonly #upstream: Upstream;
  readonly #passwords: Passwords;
  readonly #admit: Intake['run'];
  readonly #auths = new Map<string, NamespaceAuth>();

  /** @param admit runs a change once there is room for it; by default at once */
  constructor(
    upstream: Upstream,
    passwords: Passwords,
    admit: Intake['run'] = (_space, _bytes, run) => run(),
  ) {
    this.#upstream = upstream;
    this.#passwords = passwords;
    this.#admit = admit;
  }

  of(space: Keyspace): NamespaceAuth {
    let auth = this.#auths.get(space.id);
    if (auth === undefined) {
      auth = new NamespaceAuth(space, this.#upstream, this.#passwords, this.#admit);
      this.#auths.set(space.id, auth);
    }
    return auth;
  }
}
