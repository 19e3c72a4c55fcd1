/**
 * How much each namespace keeps, and what it may: the size of each key that there is, counted from a scan of etcd at the start and from its
 * revisions after, so that whatever makes a key or ends one is counted, a lease's expiry too. A write that makes more of a namespace than
 * its share is refused before etcd sees it, in the words of an etcd that is full.
 */
import { cancelled, etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import type { StoreShares } from '../../../lib/protocol/store-shares.ts';
import type { LedgerEvent, Upstream } from '../types.ts';
import { Deleted } from './deleted.ts';
import type { Growth } from './growth.ts';
import { type Keyspace, ZERO } from './keyspace.ts';
import type { Waiter } from './shares.ts';

/** What a key takes besides its bytes and its value's: etcd's record of it, and its places in three indexes. */
export const OF_A_KEY = 256;
/** Keys of a page of the scan. One of the largest keys would be more than an answer may be: then there are fewer. */
const PAGE = 512;
const FEWER = 8;
/** Between two words about one namespace that is full. Milliseconds. */
const TOLD_EVERY = 3_600_000;
/** The namespace that a key counts for: its own, or the one that the store keeps it for (own-keys.ts). */
const NAMESPACE = /^(?:k\/[a-z]+\/)?(o\/|[ad]\/[^/]+\/)/;

export interface Used {
  readonly used: number;
  /** Undefined for the owner and the node's daemons. */
  readonly share: number | undefined;
}

class Account {
  used = 0;
  /** How many keys there are. */
  keys = 0;
  /** Of writes that are under way. */
  reserved = 0;
  readonly most: number;
  readonly #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.most = most;
  }

  hasRoom({ put, replaced }: Growth): boolean {
    return put <= replaced || this.used - replaced + this.reserved + put <= this.most;
  }

  /** Resolves when a write of it has ended. */
  ended(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(bytes: number): void {
    this.reserved -= bytes;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

export class Usage {
  readonly #shares: StoreShares | undefined;
  readonly #sizes = new Map<string, number>();
  readonly #accounts = new Map<string, Account>();
  readonly #deleted = new Deleted();
  /** Of all apps that have no share by name. */
  readonly #others: Account;
  /** Revisions that came before the scan was done. */
  #early: { revision: bigint; events: readonly LedgerEvent[] }[] | undefined = [];

  readonly #onFull: (namespace: string, used: Used) => void;
  /** When it was last told that a namespace is full. */
  readonly #told = new Map<string, number>();

  /** @param shares without them nobody has a bound @param onFull told of each namespace once an hour at most */
  constructor(shares?: StoreShares, onFull: (namespace: string, used: Used) => void = () => {}) {
    this.#shares = shares;
    this.#onFull = onFull;
    this.#others = new Account(shares?.others ?? Number.POSITIVE_INFINITY);
  }

  /** Counts what there is. @throws RpcError when etcd is away */
  async scan(upstream: Upstream, most = PAGE): Promise<void> {
    let key: Uint8Array = ZERO;
    let revision = 0n;
    let limit = most;
    for (;;) {
      const page = { key, rangeEnd: ZERO, limit: BigInt(limit), revision };
      const reply = await upstream.unary(KV.method.range, page).catch((error: unknown) => {
        if (error instanceof RpcError && error.status === status.resourceExhausted && limit > 1)
          return undefined;
        throw error;
      });
      if (reply === undefined) {
        limit = Math.max(1, Math.floor(limit / FEWER));
        continue;
      }
      revision ||= reply.header?.revision ?? 0n;
      for (const kv of reply.kvs) this.#put(textOf(kv.key), kv.key.length + kv.value.length);
      const last = reply.kvs.at(-1);
      if (!reply.more || last === undefined) break;
      key = Uint8Array.from([...last.key, 0]);
    }
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const one of early) if (one.revision > revision) this.told(one.revision, one.events);
  }

  /** Etcd has compacted its history up to this revision. */
  compacted(revision: bigint): void {
    this.#deleted.compacted(revision);
  }

  /** How many keys were deleted that etcd still keeps the history of, and so looks at: of one namespace, or of all. */
  deletedOf(space?: Keyspace): number {
    return this.#deleted.of(space?.id);
  }

  /** A revision of etcd's, in order. */
  told(revision: bigint, events: readonly LedgerEvent[]): void {
    if (this.#early !== undefined) {
      this.#early.push({ revision, events });
      return;
    }
    for (const { type, key, value } of events) {
      if (type === 'put') this.#put(textOf(key), key.length + value.length);
      else this.#delete(textOf(key), revision);
    }
  }

  /** What a key takes; 0 for one that is not there. By etcd's name of it. */
  sizeOf(key: Uint8Array): number {
    return this.#sizes.get(textOf(key)) ?? 0;
  }

  /** What a namespace keeps, and what it may be keeping once the writes that are under way have ended. */
  mostOf({ id }: Keyspace): number {
    const account = this.#accounts.get(id);
    return account === undefined ? 0 : account.used + account.reserved;
  }

  /** How many keys a namespace has. */
  keysOf({ id }: Keyspace): number {
    return this.#accounts.get(id)?.keys ?? 0;
  }

  shareOf({ id }: Keyspace): number | undefined {
    return this.#shareOf(id);
  }

  usedBy({ id }: Keyspace): number {
    return this.#accounts.get(id)?.used ?? 0;
  }

  /** By the namespaces' prefixes. */
  *all(): Iterable<[string, Used]> {
    for (const [id, { used }] of this.#accounts) yield [id, { used, share: this.#shareOf(id) }];
  }

  /**
   * Runs what makes a namespace grow, if there is room. Where what is under way may be what takes it, that is waited for.
   *
   * @param growth called again after each wait
   * @throws RpcError "database space exceeded"
   */
  async grow<T>(space: Keyspace, growth: () => Growth, run: () => Promise<T>, waiter?: Waiter): Promise<T> {
    const account = this.#accountOf(space.id);
    const pool = this.#poolOf(space.id);
    let wanted = growth();
    while (!account.hasRoom(wanted)) {
      if (account.reserved === 0) throw this.#full(space.id);
      await account.ended();
      if (waiter?.signal.aborted) throw cancelled();
      wanted = growth();
    }
    if (pool !== undefined && !pool.hasRoom(wanted)) throw this.#full(space.id);
    account.reserved += wanted.put;
    if (pool !== undefined) pool.reserved += wanted.put;
    try {
      return await run();
    } finally {
      account.release(wanted.put);
      pool?.release(wanted.put);
    }
  }

  #full(id: string): RpcError {
    const now = performance.now();
    if (now - (this.#told.get(id) ?? Number.NEGATIVE_INFINITY) >= TOLD_EVERY) {
      this.#told.set(id, now);
      this.#onFull(id, { used: this.#accountOf(id).used, share: this.#shareOf(id) });
    }
    return etcdError('noSpace');
  }

  #put(key: string, bytes: number): void {
    const before = this.#sizes.get(key);
    this.#sizes.set(key, bytes + OF_A_KEY);
    this.#count(key, bytes + OF_A_KEY - (before ?? 0), before === undefined ? 1 : 0);
  }

  #delete(key: string, revision: bigint): void {
    const before = this.#sizes.get(key);
    if (before === undefined) return;
    this.#sizes.delete(key);
    const id = this.#count(key, -before, -1);
    this.#deleted.add(id ?? '', revision);
  }

  #count(key: string, bytes: number, keys: number): string | undefined {
    const id = NAMESPACE.exec(key)?.[1];
    // The store's own, of no namespace.
    if (id === undefined) return undefined;
    const account = this.#accountOf(id);
    account.used += bytes;
    account.keys += keys;
    const pool = this.#poolOf(id);
    if (pool !== undefined) pool.used += bytes;
    return id;
  }

  #accountOf(id: string): Account {
    let account = this.#accounts.get(id);
    if (account === undefined) {
      account = new Account(this.#shareOf(id) ?? Number.POSITIVE_INFINITY);
      this.#accounts.set(id, account);
    }
    return account;
  }

  #shareOf(id: string): number | undefined {
    if (this.#shares === undefined || !id.startsWith('a/')) return undefined;
    return this.#shares.named.get(nameIn(id)) ?? this.#shares.each;
  }

  #poolOf(id: string): Account | undefined {
    return id.startsWith('a/') && !this.#shares?.named.has(nameIn(id)) ? this.#others : undefined;
  }
}

/** The namespace that a key of etcd's counts for; undefined for the store's own. */
export function namespaceOf(key: Uint8Array): string | undefined {
  return NAMESPACE.exec(textOf(key))?.[1];
}

const nameIn = (id: string): string => id.slice(2, -1);

function textOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');
}
