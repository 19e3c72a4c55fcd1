/** What a client of the store reaches: its own namespace, and of that what its users and roles allow. */
import { type Mutation, one } from '../mutation.ts';

const SPACE = 'guest/kv/namespace/keyspace.ts';
const CHECK = ['guest/kv/namespace/check.ts', 'guest/kv/namespace/check.test.ts'] as const;
const REQUESTS = ['guest/kv/namespace/requests.ts', 'guest/kv/namespace/requests.test.ts'] as const;
const REPLIES = 'guest/kv/namespace/replies.test.ts';
const LEASES = 'guest/kv/namespace/leases.ts';
const FLOORS = 'guest/kv/namespace/floors.ts';
const STORE = ['guest/kv/namespace/store.ts', 'guest/kv/namespace/store.test.ts'] as const;
const WATCH = ['guest/kv/namespace/watch-session.ts', 'guest/kv/namespace/watch-session.test.ts'] as const;
const ACCESS = ['guest/kv/auth/access.ts', 'guest/kv/auth/access.test.ts'] as const;
const AUTH = ['guest/kv/auth/namespace-auth.ts', 'guest/kv/auth/namespace-auth.test.ts'] as const;

export const storeNamespaces: readonly Mutation[] = [
  one(
    'store',
    'the end of a namespace for a range without one',
    [
      SPACE,
      'isOpenEnded(rangeEnd) ? this.end : this.key(rangeEnd)',
      'isOpenEnded(rangeEnd) ? rangeEnd : this.key(rangeEnd)',
    ],
    [REQUESTS[1], 'a range, a put, a deletion, a watch'],
  ),
  one(
    'store',
    'the prefix before the end of a range',
    [SPACE, 'this.end : this.key(rangeEnd)', 'this.end : rangeEnd'],
    [REQUESTS[1], 'a transaction, at any depth'],
  ),
  one(
    'store',
    "that no prefix is the beginning of another's",
    [SPACE, '(?:o|[ad]/', '(?:o|k/.*|[ad]/'],
    [REQUESTS[1], 'is none'],
  ),
  one(
    'store',
    'the check of every key that comes back',
    [SPACE, '    if (!this.has(upstreamKey))\n', '    if (upstreamKey.length < this.prefix.length)\n'],
    [REPLIES, 'with a key of elsewhere are no replies'],
  ),
  one(
    'store',
    'that a lease of elsewhere is none to a put',
    [REQUESTS[0], 'owned.has(lease) ? leases.upstream(lease) : NEVER', 'leases.upstream(lease)'],
    [REQUESTS[1], 'a put with a lease of its own'],
  ),
  one(
    'store',
    'lease ids by namespace',
    [
      'guest/kv/namespace/lease-ids.ts',
      ".update('lease ids of ').update(namespace)",
      ".update('lease ids of ')",
    ],
    ['guest/kv/namespace/lease-ids.test.ts', 'the same id is another one in another namespace'],
  ),
  one(
    'store',
    'the end of leases that nobody was told of',
    [LEASES, '    await leases.#revokeUntold();\n', ''],
    [STORE[1], 'that nobody was told of are revoked at a start'],
  ),
  one(
    'store',
    'the bound of leases',
    [LEASES, ' || counted.value.count > BigInt(this.#most)', ''],
    [STORE[1], 'are so many at most'],
  ),
  one(
    'store',
    'the bound of entries of all levels of a transaction',
    [CHECK[0], ' || spent.entries > MAX_ENTRIES', ''],
    [CHECK[1], 'are no more in many transactions than in one'],
  ),
  one(
    'store',
    'the bound of depth of a transaction',
    [CHECK[0], ' || spent.depth >= MAX_DEPTH', ''],
    [CHECK[1], 'are not at any depth'],
  ),
  one(
    'store',
    'the check of the order to sort by, on which etcd ends',
    [CHECK[0], ' || RangeRequest_SortTarget[sortTarget] === undefined', ''],
    [CHECK[1], 'what is not defined is refused'],
  ),
  one(
    'store',
    "a namespace's floor for a read",
    [REQUESTS[0], 'request.revision > 0n && request.revision < scope.floor', 'request.revision < 0n'],
    [STORE[1], 'is a namespace’s own'],
  ),
  one(
    'store',
    "a namespace's floor for a read within a transaction",
    [REQUESTS[0], 'revision: gone ? COMPACTED : request.revision', 'revision: request.revision'],
    [STORE[1], 'fails a transaction that comes to read before it'],
  ),
  one(
    'store',
    'the previous value of an event at the floor',
    [
      'guest/kv/namespace/watches.ts',
      'event.kv.modRevision - 1n >= view.floor',
      'event.kv.modRevision >= 0n',
    ],
    [REPLIES, 'tells nothing of what was before the floor'],
  ),
  one(
    'store',
    "that etcd is not compacted above a namespace's floor",
    [FLOORS, 'if (revision < lowest) lowest = revision;', 'if (revision > lowest) lowest = revision;'],
    [STORE[1], 'reaches etcd as far as all namespaces'],
  ),
  one(
    'store',
    "that etcd is not compacted beyond the ledger's tiles",
    [FLOORS, 'let lowest = this.#durable();', 'let lowest = 2n ** 62n;'],
    [STORE[1], 'reaches etcd as far as all namespaces'],
  ),
  one(
    'store',
    'permissions within nested transactions',
    [ACCESS[0], 'return accessOfTxn(request.value);', 'return [];'],
    [ACCESS[1], 'in a transaction and within one'],
  ),
  one(
    'store',
    'the permission to read what a put replaces',
    [
      ACCESS[0],
      "export function accessOfPut({ key, prevKv }: PutRequest): Access[] {\n  const write: Access = { kind: 'write', key, rangeEnd: ALONE };\n  return prevKv ?",
      "export function accessOfPut({ key, prevKv }: PutRequest): Access[] {\n  const write: Access = { kind: 'write', key, rangeEnd: ALONE };\n  return prevKv && key.length === 0 ?",
    ],
    [ACCESS[1], 'in a transaction and within one'],
  ),
  one(
    'store',
    'the permission to write all that a lease holds, to attach to it',
    [STORE[0], '...accesses, ...(await Promise.all(attached)).flat()', '...accesses'],
    [AUTH[1], 'does not revoke, or attach to, a lease'],
  ),
  one(
    'store',
    'the permission to write all that a lease holds, to revoke it',
    [
      STORE[0],
      "      await guardOf(auth, call, await this.#accessOfLease(call, space, 'write', request.ID));\n",
      '',
    ],
    [AUTH[1], 'does not revoke, or attach to, a lease'],
  ),
  one(
    'store',
    'the guard that etcd compares before it does what was allowed',
    [
      AUTH[0],
      'this.#permissions.check(user, accesses);\n    return this.#guard();',
      'this.#permissions.check(user, accesses);\n    return undefined;',
    ],
    [AUTH[1], 'is not done: another node’s change is seen by etcd'],
  ),
  one(
    'store',
    'that root alone compacts',
    [STORE[0], '    auth.requireRoot(call);\n    return this.floors', '    return this.floors'],
    [AUTH[1], 'does not compact'],
  ),
  one(
    'store',
    'that members are not shown to nobody',
    ['guest/kv/api/cluster.ts', '      await store.requireUser(call);\n', ''],
    [AUTH[1], 'nobody sees or touches what is of no key'],
  ),
  one(
    'store',
    "that of the owner's users only root maintains the engine",
    ['guest/kv/api/maintenance.ts', '    await store.requireRoot(call);\n', ''],
    [AUTH[1], 'nobody sees or touches what is of no key'],
  ),
  one(
    'store',
    "the end of a user's tokens with its password",
    [AUTH[0], 'if (passwords.get(name) !== password) this', 'if (!passwords.has(name)) this'],
    [AUTH[1], 'ends a user’s tokens with its password'],
  ),
  one(
    'store',
    'the bound of passwords that are computed at a time',
    [
      'guest/kv/auth/passwords.ts',
      "      if (own.length >= WAITING) throw etcdError('tooManyRequests');\n",
      '',
    ],
    ['guest/kv/auth/passwords.test.ts', 'a crowd is refused'],
  ),
  one(
    'store',
    'the end of a token that is not used',
    ['guest/kv/auth/tokens.ts', '    if (found.expires <= this.#now()) return undefined;\n', ''],
    ['guest/kv/auth/tokens.test.ts', 'a token is its user’s for as long as it is used'],
  ),
  one(
    'store',
    'that a watch is allowed as a read is',
    [
      WATCH[0],
      'if (reason !== undefined) return this.#ends.client(refusedWatch({ header }, reason));',
      "if (reason === '') return this.#ends.client(refusedWatch({ header }, reason));",
    ],
    [WATCH[1], 'a watch is allowed as a read is'],
  ),
  one(
    'store',
    'the end of a watch with its permission',
    [WATCH[0], 'for (const [id, { range }] of this.#watches) this.#recheck(id, range);', ''],
    [WATCH[1], 'a watch is allowed as a read is'],
  ),
  one(
    'store',
    'the bound of watches',
    ['guest/kv/namespace/counts.ts', '    if (count > this.#most) return false;\n', ''],
    [WATCH[1], 'a namespace has so many watches at most'],
  ),
  one(
    'store',
    'that what a lease holds stays what it is until it is revoked',
    ['guest/kv/namespace/turns.ts', '      await Promise.all(before);\n', ''],
    ['guest/kv/namespace/turns.test.ts', 'what names the same thing is done one after the other'],
  ),
  one(
    'store',
    'that who waits for a lock leaves no place behind when it goes',
    ['guest/kv/api/lock.ts', '    await deleteKey(store, tidying(call), key).catch(() => {});\n', ''],
    ['guest/kv/api/lock.test.ts', 'is not waited for by who has gone away'],
  ),
];
