/**
 * The store as one namespace has it: each call is checked as etcd checks it, allowed by the namespace's users and roles, done in etcd
 * under the namespace's prefix, and answered in the client's terms.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  type CompactionRequest,
  type CompactionResponseSchema,
  type DeleteRangeRequest,
  DeleteRangeRequestSchema,
  type DeleteRangeResponseSchema,
  KV,
  type PutRequest,
  PutRequestSchema,
  type PutResponseSchema,
  type RangeRequest,
  type RangeResponseSchema,
  type ResponseOp,
  type TxnRequest,
  TxnRequestSchema,
  type TxnResponseSchema,
} from '../../../lib/etcd/gen/kv_pb.js';
import type {
  LeaseGrantRequest,
  LeaseGrantResponseSchema,
  LeaseLeasesResponseSchema,
  LeaseRevokeRequest,
  LeaseRevokeResponseSchema,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponseSchema,
} from '../../../lib/etcd/gen/lease_pb.js';
import { type Access, accessOfDelete, accessOfPut, accessOfRange, accessOfTxn } from '../auth/access.ts';
import { Auths, type Guard, type NamespaceAuth } from '../auth/namespace-auth.ts';
import { Passwords } from '../auth/passwords.ts';
import type { Call, Caller, Upstream, UpstreamOptions } from '../types.ts';
import { checkDeleteRange, checkPut, checkRange, checkSize, checkTxn, payloadOf } from './check.ts';
import { Counts } from './counts.ts';
import type { DiskSpace } from './disk-space.ts';
import { Floors } from './floors.ts';
import { type Growth, growthOf, type Operation } from './growth.ts';
import type { Intake } from './intake.ts';
import { Keyspace } from './keyspace.ts';
import { Leases } from './leases.ts';
import { leaseKey } from './own-keys.ts';
import { Reads, type Watching } from './reads.ts';
import { deleteReply, putReply, rangeReply, txnReply } from './replies.ts';
import { deleteUpstream, leasesOf, putUpstream, rangeUpstream, type Scope, txnUpstream } from './requests.ts';
import { Shares, type Waiter } from './shares.ts';
import { Turns } from './turns.ts';
import { OF_A_KEY, Usage } from './usage.ts';

/** How often a request is authorised anew that a change of users or roles came before. */
const ATTEMPTS = 3;
/** Open watches of one namespace, over all its streams: etcd looks at each of them for each event. */
const MOST_WATCHES = 20_000;
/** Open streams of one namespace, of watches and of leases kept alive: each costs etcd and this process about 25 KB. */
const MOST_STREAMS = 2_000;
/** What one namespace has of writes under way: they go on when their clients have gone. In bytes; each counts as some more. */
const WRITES = { most: 16 * 1024 * 1024, one: 1024 };
/** What a call reads that etcd is not told of when its client goes away: it would go on, and the next one beside it. Bytes. */
const MUCH = 1024 * 1024;
const NO_LEASES: ReadonlySet<bigint> = new Set();
const ALONE = new Uint8Array();

type Reply<S extends DescMessage> = Promise<MessageInitShape<S>>;

export interface StoreOptions {
  /** The revision that etcd may be compacted to at most: the ledger's `durable`. */
  readonly durable: () => bigint;
  readonly passwords?: Passwords;
  readonly mostWatches?: number;
  /** Scanned. Without one nobody has a bound, and nothing is counted. */
  readonly usage?: Usage;
}

export class Store {
  readonly upstream: Upstream;
  readonly leases: Leases;
  readonly floors: Floors;
  readonly auths: Auths;
  readonly watches: Counts;
  readonly streams = new Counts(MOST_STREAMS);
  /** Of the streams those with watches, and those whose watches are told what was before. */
  readonly watching = new Counts(MOST_STREAMS);
  readonly watchingPrevious = new Counts(MOST_STREAMS);
  readonly #spaces = new Map<string, Keyspace>();
  readonly #turns = new Turns();
  readonly usage: Usage;
  readonly #reads: Reads;
  readonly #writes = new Shares(WRITES.most);
  /** Where writes are refused once the disk has none left. */
  disk: Pick<DiskSpace, 'isFull'> | undefined;
  /** Where writes wait until the database has room. */
  intake: Pick<Intake, 'run'> | undefined;

  private constructor(
    upstream: Upstream,
    leases: Leases,
    floors: Floors,
    { passwords = new Passwords(), mostWatches = MOST_WATCHES, usage = new Usage() }: StoreOptions,
  ) {
    this.upstream = upstream;
    this.leases = leases;
    this.floors = floors;
    this.auths = new Auths(upstream, passwords, (...write) => this.#admit(...write));
    this.watches = new Counts(mostWatches);
    this.usage = usage;
    this.#reads = new Reads(upstream, usage);
  }

  /** @param upstream whose answers to writes come when the ledger covers them */
  static async open(upstream: Upstream, options: StoreOptions): Promise<Store> {
    const leases = await Leases.open(upstream);
    const { durable, usage } = options;
    const floors = await Floors.open(upstream, durable, (revision) => usage?.compacted(revision));
    return new Store(upstream, leases, floors, options);
  }

  /** @throws KV_PREFIX */
  spaceOf({ prefix }: Caller): Keyspace {
    const id = Buffer.from(prefix).toString('latin1');
    let space = this.#spaces.get(id);
    if (space === undefined) {
      space = new Keyspace(prefix);
      this.#spaces.set(id, space);
    }
    return space;
  }

  /** A namespace and its users and roles, for a call to begin with. */
  async enter({ caller, signal, deadline }: Call): Promise<{ space: Keyspace; auth: NamespaceAuth }> {
    const space = this.spaceOf(caller);
    const auth = this.auths.of(space);
    await auth.ready({ signal, deadline });
    return { space, auth };
  }

  /** The same for a call that may be the namespace's first write. */
  async #enterToWrite(call: Call): Promise<{ space: Keyspace; auth: NamespaceAuth }> {
    const entered = await this.enter(call);
    await this.floors.register(entered.space);
    return entered;
  }

  scope(space: Keyspace, owned: ReadonlySet<bigint> = NO_LEASES): Scope {
    return { space, leases: this.leases.ids(space), floor: this.floors.of(space), owned };
  }

  async range(call: Call, request: RangeRequest): Reply<typeof RangeResponseSchema> {
    checkRange(request);
    const { space, auth } = await this.enter(call);
    return this.#authorised(auth, call, accessOfRange(request), async (guard) => {
      const scope = this.scope(space);
      const reply = await this.#do(call, guard, KV.method.range, {
        case: 'requestRange',
        value: rangeUpstream(scope, request),
      });
      return reply && rangeReply(scope, reply);
    });
  }

  async put(call: Call, request: PutRequest): Reply<typeof PutResponseSchema> {
    checkPut(request);
    const bytes = request.key.length + request.value.length;
    checkSize(PutRequestSchema, request, bytes);
    const { space, auth } = await this.#enterToWrite(call);
    const leases = request.lease === 0n ? NO_LEASES : new Set([request.lease]);
    return this.#attaching(call, { space, auth, leases }, accessOfPut(request), async (scope, guard) => {
      const value = putUpstream(scope, request);
      const reply = await this.#do(call, guard, KV.method.put, { case: 'requestPut', value }, bytes);
      return reply && putReply(scope, reply);
    });
  }

  async deleteRange(call: Call, request: DeleteRangeRequest): Reply<typeof DeleteRangeResponseSchema> {
    checkDeleteRange(request);
    checkSize(DeleteRangeRequestSchema, request, request.key.length + request.rangeEnd.length);
    const { space, auth } = await this.enter(call);
    return this.#authorised(auth, call, accessOfDelete(request), async (guard) => {
      const scope = this.scope(space);
      const reply = await this.#do(call, guard, KV.method.deleteRange, {
        case: 'requestDeleteRange',
        value: deleteUpstream(scope, request),
      });
      return reply && deleteReply(scope, reply);
    });
  }

  async txn(call: Call, request: TxnRequest): Reply<typeof TxnResponseSchema> {
    checkTxn(request);
    const bytes = payloadOf(request);
    checkSize(TxnRequestSchema, request, bytes);
    const { space, auth } = await this.#enterToWrite(call);
    const leases = leasesOf(request);
    return this.#attaching(call, { space, auth, leases }, accessOfTxn(request), async (scope, guard) => {
      const value = txnUpstream(scope, request);
      const reply = await this.#do(call, guard, KV.method.txn, { case: 'requestTxn', value }, bytes);
      return reply && txnReply(scope, reply);
    });
  }

  async compact(call: Call, request: CompactionRequest): Reply<typeof CompactionResponseSchema> {
    const { space, auth } = await this.enter(call);
    auth.requireRoot(call);
    return this.floors.compact(space, request, call);
  }

  async leaseGrant(call: Call, request: LeaseGrantRequest): Reply<typeof LeaseGrantResponseSchema> {
    const { space, auth } = await this.#enterToWrite(call);
    auth.requireUser(call);
    const put = leaseKey(space, 0n).length + OF_A_KEY;
    const growth = () => ({ put, replaced: 0, written: put });
    return this.#grow(call, 0, growth, () => this.leases.grant(space, request, call));
  }

  /** To revoke a lease is to delete what is attached to it: all of it has to be writable. */
  async leaseRevoke(call: Call, request: LeaseRevokeRequest): Reply<typeof LeaseRevokeResponseSchema> {
    const { space, auth } = await this.enter(call);
    auth.requireUser(call);
    const revoke = () => this.leases.revoke(space, request, call);
    if (auth.userOf(call) === undefined) return revoke();
    return this.#turns.take([turnOf(space, request.ID)], async () => {
      await guardOf(auth, call, await this.#accessOfLease(call, space, 'write', request.ID));
      return revoke();
    });
  }

  async leaseTimeToLive(
    call: Call,
    request: LeaseTimeToLiveRequest,
  ): Reply<typeof LeaseTimeToLiveResponseSchema> {
    const { space, auth } = await this.enter(call);
    auth.requireUser(call);
    const ask = () => this.leases.timeToLive(space, request, call);
    const reply = await (request.keys ? this.#readingKeys(call, space, ask) : ask());
    const keys = reply.keys ?? [];
    await guardOf(
      auth,
      call,
      keys.map((key) => ({ kind: 'read', key, rangeEnd: ALONE })),
    );
    return reply;
  }

  async leaseLeases(call: Call): Reply<typeof LeaseLeasesResponseSchema> {
    const { space, auth } = await this.enter(call);
    auth.requireUser(call);
    return this.#readingKeys(call, space, () => this.leases.list(space, call));
  }

  /** Runs what may be answered with all keys that the namespace has, or with as many leases. */
  #readingKeys<T>(call: Call, space: Keyspace, run: () => Promise<T>): Promise<T> {
    return this.#reads.run(space, this.usage.mostOf(space), run, call);
  }

  /** Etcd's id of the lease to keep alive; one that never was, for one that is not the namespace's. */
  async leaseToKeep(call: Call, client: bigint): Promise<bigint> {
    const { space, auth } = await this.enter(call);
    auth.requireUser(call);
    return this.leases.known(space, client, call);
  }

  /** For what is of no key. etcd 3.5.16 lets nobody's calls pass there. @throws RpcError for a call by nobody that the namespace knows */
  async requireUser(call: Call): Promise<void> {
    const { auth } = await this.enter(call);
    auth.requireUser(call);
  }

  /** @throws RpcError for a call by anyone but root, where there are users */
  async requireRoot(call: Call): Promise<void> {
    const { auth } = await this.enter(call);
    auth.requireRoot(call);
  }

  async #accessOfLease(call: Call, space: Keyspace, kind: Access['kind'], lease: bigint): Promise<Access[]> {
    const keys = await this.#readingKeys(call, space, () => this.leases.attached(space, lease, call));
    return keys.map((key) => ({ kind, key, rangeEnd: ALONE }));
  }

  /**
   * Does what attaches keys to leases. A user who could not revoke a lease may not attach anything to it: all that is attached has to
   * be writable, and stays what it is until that is done.
   */
  async #attaching<T>(
    call: Call,
    { space, auth, leases }: { space: Keyspace; auth: NamespaceAuth; leases: ReadonlySet<bigint> },
    accesses: readonly Access[],
    run: (scope: Scope, guard: Guard | undefined) => Promise<T | undefined>,
  ): Promise<T> {
    const owned = await this.#ownedOf(call, space, leases);
    const scope = () => this.scope(space, owned);
    const plain = (all: readonly Access[]) =>
      this.#authorised(auth, call, all, (guard) => run(scope(), guard));
    if (owned.size === 0 || auth.userOf(call) === undefined) return plain(accesses);
    const turns = [...owned].map((lease) => turnOf(space, lease));
    return this.#turns.take(turns, async () => {
      // Whoever may not even write there is told so before anything is asked of the lease.
      await guardOf(auth, call, accesses);
      if (auth.isRoot(call)) return plain(accesses);
      const attached = [...owned].map((lease) => this.#accessOfLease(call, space, 'write', lease));
      return plain([...accesses, ...(await Promise.all(attached)).flat()]);
    });
  }

  async #ownedOf(call: Call, space: Keyspace, leases: ReadonlySet<bigint>): Promise<ReadonlySet<bigint>> {
    if (leases.size === 0) return leases;
    const all = [...leases];
    const has = await Promise.all(all.map((lease) => this.leases.has(space, lease, call)));
    return new Set(all.filter((_, index) => has[index]));
  }

  /** Runs it with a guard, and again if the guard did not hold: users and roles were changed meanwhile. */
  async #authorised<T>(
    auth: NamespaceAuth,
    call: Call,
    accesses: readonly Access[],
    run: (guard: Guard | undefined) => Promise<T | undefined>,
  ): Promise<T> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const done = await run(await guardOf(auth, call, accesses));
      if (done !== undefined) return done;
      await auth.refresh(call);
    }
    throw etcdError('authOldRevision');
  }

  /** As `#ask`, once there is room for what it reads and what it makes the namespace grow by. @param bytes of the request */
  async #do<I extends DescMessage, O extends DescMessage>(
    call: Call,
    guard: Guard | undefined,
    method: DescMethodUnary<I, O>,
    request: Operation & { readonly value?: MessageInitShape<I> },
    bytes = 0,
  ): Promise<MessageShape<O> | undefined> {
    const space = this.spaceOf(call.caller);
    const growth = () => growthOf(this.usage, request);
    const writes = growth().written > 0;
    const ask = (cost: number) => {
      const options = writes || cost > MUCH ? {} : call;
      return this.#reads.run(space, cost, () => this.#ask(options, guard, method, request), call);
    };
    const asked = () => ({ request, growth: growth(), watching: this.#watchingOf(space) });
    const cost = this.#reads.costOf(space, asked());
    if (cost !== undefined) return writes ? this.#grow(call, bytes, growth, () => ask(cost)) : ask(cost);
    const alone = async () => {
      const measured = await this.#reads.measure(space, asked(), call);
      return writes ? this.#growNow(call, growth, () => ask(measured)) : ask(measured);
    };
    return this.#writes.run(space.id, this.#writes.most, alone, call);
  }

  #watchingOf(space: Keyspace): Watching {
    return { streams: this.watching.of(space), previous: this.watchingPrevious.of(space) };
  }

  #grow<T>(call: Call, bytes: number, growth: () => Growth, run: () => Promise<T>): Promise<T> {
    const grow = () => this.#growNow(call, growth, run);
    return this.#writes.run(this.spaceOf(call.caller).id, WRITES.one + bytes, grow, call);
  }

  /** @throws RpcError "database space exceeded" */
  async #growNow<T>(call: Call, growth: () => Growth, run: () => Promise<T>): Promise<T> {
    const space = this.spaceOf(call.caller);
    return this.#admit(space, growth().written, () => this.usage.grow(space, growth, run, call), call);
  }

  /** Whatever puts: users and roles are written by nobody's call of `put`. @throws RpcError "database space exceeded" */
  async #admit<T>(space: Keyspace, bytes: number, run: () => Promise<T>, waiter?: Waiter): Promise<T> {
    if (this.disk?.isFull) throw etcdError('noSpace');
    return this.intake === undefined ? run() : this.intake.run(space, bytes, run, waiter);
  }

  /** One request of etcd's, or the same within a transaction that a guard is compared in; undefined if the guard does not hold. */
  async #ask<I extends DescMessage, O extends DescMessage>(
    options: UpstreamOptions,
    guard: Guard | undefined,
    method: DescMethodUnary<I, O>,
    request: Operation & { readonly value?: MessageInitShape<I> },
  ): Promise<MessageShape<O> | undefined> {
    if (guard === undefined)
      return this.upstream.unary(method, request.value as MessageInitShape<I>, options);
    const { succeeded, responses, header } = await this.upstream.unary(
      KV.method.txn,
      { compare: [guard], success: [{ request }] },
      options,
    );
    if (!succeeded) return undefined;
    // What stands in a transaction has a header with nothing but the revision. The reply is of the request's own kind.
    return { ...firstOf(responses), header } as unknown as MessageShape<O>;
  }
}

/** Only what etcd has now is a reason to refuse: another node may have changed it. */
async function guardOf(
  auth: NamespaceAuth,
  call: Call,
  accesses: readonly Access[],
): Promise<Guard | undefined> {
  try {
    return auth.authorize(call, accesses);
  } catch {
    await auth.refresh(call);
    return auth.authorize(call, accesses);
  }
}

function firstOf([first]: readonly ResponseOp[]) {
  const { response } = first ?? {};
  if (response?.case === undefined) throw etcdError('corrupt');
  return response.value;
}

function turnOf(space: Keyspace, lease: bigint): string {
  return `${space.id}${lease}`;
}
