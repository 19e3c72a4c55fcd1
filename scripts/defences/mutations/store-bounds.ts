/** What one client of the store may take of what all of them share: memory, the database, connections, time. */
import { type Mutation, rowsOf } from '../mutation.ts';

const NEIGHBOURS = 'guest/kv/api/neighbours.test.ts';
const READS = ['guest/kv/namespace/reads.ts', 'guest/kv/namespace/reads.test.ts'] as const;
const COST = ['guest/kv/namespace/cost.ts', READS[1]] as const;
const SHARES = ['guest/kv/namespace/shares.ts', 'guest/kv/namespace/shares.test.ts'] as const;
const USAGE = ['guest/kv/namespace/usage.ts', 'guest/kv/namespace/usage.test.ts'] as const;
const COSTS = ['guest/kv/namespace/cost.ts', 'guest/kv/namespace/cost.test.ts'] as const;
const READS_COSTS = ['guest/kv/namespace/reads.ts', COSTS[1]] as const;
const ROOM = ['guest/kv/namespace/room.ts', 'guest/kv/namespace/room.test.ts'] as const;
const INTAKE = ['guest/kv/namespace/intake.ts', 'guest/kv/namespace/intake.test.ts'] as const;
const APPS = ['guest/kv/apps.ts', 'guest/kv/apps.test.ts'] as const;

const row = rowsOf('store');

export const storeBounds: readonly Mutation[] = [
  row(
    'that one app alone maintains the store',
    APPS,
    'owner: app === this.#owner }',
    'owner: this.#owner !== undefined }',
    'one app maintains the store if network.json names it',
  ),
  row(
    'that a comparison reads the values of its range',
    COST,
    '      for (const one of compare) add(one);\n',
    '      void compare;\n',
    'comparisons of wide ranges in one',
  ),
  row(
    'that what is sorted is read as a whole',
    COST,
    'const limit = isLimited(value) ? (',
    'const limit = isLimited({ limit: value.limit ?? 0n }) ? (',
    'the first of what is sorted in one',
  ),
  row(
    'that a read of the past counts',
    COST,
    'if (revision >= 0n && (times',
    'if (revision === 0n && (times',
    'wide ranges of the past in one',
  ),
  row(
    'that etcd reads one key more than it is asked for',
    COST,
    '(value.limit ?? 0n) + 1n',
    'value.limit ?? 0n',
    'what is one more than the first in one',
  ),
  row(
    'that a write counts for each stream that is told of it',
    READS_COSTS,
    "    if (told > MOST_READ) throw etcdError('readTooLarge');\n",
    '',
    'what is put counts for each stream',
  ),
  row(
    'that what was before counts for each stream that is told of it',
    READS_COSTS,
    'watching.previous > 0 ? shownOf(',
    'watching.previous < 0 ? shownOf(',
    'what was before counts for each stream',
  ),
  row(
    'that ranges which are only counted or deleted count',
    COSTS,
    '(times > 0 || isWide(read))',
    'times > 0',
    'what is only counted or deleted counts',
  ),
  row(
    'that deleted keys are not looked at again and again',
    READS_COSTS,
    "    if (ranges > 1 && deleted > DELETED_VISITS) throw etcdError('readTooLarge');\n",
    '',
    'deleted keys that etcd still has cannot',
  ),
  row(
    'that a revision which is told in parts comes whole',
    ['guest/kv/namespace/watch-parts.ts', 'guest/kv/namespace/watch-parts.test.ts'],
    'return from > 0 ? { ...reply, events: all.slice(0, from), fragment: false } : undefined;',
    'return { ...reply, events: all.splice(0), fragment: false };',
    'a revision comes whole',
  ),
  row(
    'that nothing of a revision is kept without end',
    ['guest/kv/namespace/watch-parts.ts', 'guest/kv/namespace/watch-parts.test.ts'],
    'if (this.#bytes > MOST_READ)',
    'if (this.#bytes < 0)',
    'a revision that is more than an answer',
  ),
  row(
    'that writes are refused before the disk is full',
    ['guest/kv/namespace/store.ts', USAGE[1]],
    "    if (this.disk?.isFull) throw etcdError('noSpace');\n",
    '',
    'where the disk is nearly full',
  ),
  row(
    'that many keys which were deleted give way',
    ROOM,
    'this.#isMuch(inUse, wanted) || this.#areMany || isFull;',
    'this.#isMuch(inUse, wanted) || isFull;',
    'many keys that were deleted',
  ),
  row(
    'that nothing is written to a namespace between the measure and the read',
    ['guest/kv/namespace/store.ts', READS[1]],
    'return this.#writes.run(space.id, this.#writes.most, alone, call);',
    'return alone();',
    'what is written while ranges are measured',
  ),
  row(
    'what is read at a time',
    SHARES,
    'share.waiting.length > 0 || share.taken + weight > this.most',
    'share.waiting.length > 0',
    'waits for itself, in order',
  ),
  row(
    'that who has gone leaves nothing behind where it waited',
    SHARES,
    "signal?.addEventListener('abort', leave, { once: true });",
    'void leave;',
    'who has gone is not waited for',
  ),
  row(
    'the share of a namespace',
    USAGE,
    'return put <= replaced || this.used - replaced + this.reserved + put <= this.most;',
    'return put <= replaced || this.most >= 0;',
    'an app that is full is refused',
  ),
  row(
    'that writes under way have their room kept',
    USAGE,
    '    account.reserved += wanted.put;\n',
    '',
    'writes at the same time',
  ),
  row(
    'what all apps without a share by name keep together',
    USAGE,
    'if (pool !== undefined && !pool.hasRoom(wanted))',
    'if (pool !== undefined && !account.hasRoom(wanted))',
    'all apps together leave room',
  ),
  row(
    'that leases count',
    ['guest/kv/namespace/store.ts', USAGE[1]],
    'const growth = () => ({ put, replaced: 0 });',
    'const growth = () => ({ put: put * 0, replaced: 0 });',
    'leases count as the keys',
  ),
  row(
    "that a key of the store's own counts for the namespace that it is kept for",
    USAGE,
    '/^(?:k\\/[a-z]+\\/)?(o',
    '/^(o',
    'leases count as the keys',
  ),
  row(
    'that a start counts what there is',
    ['guest/kv/namespace/usage.ts', USAGE[1]],
    'if (!reply.more || last === undefined) break;',
    'if (last !== undefined || !reply.more) break;',
    'a start counts what there is',
  ),
  row(
    'that history gives way before the store is full',
    ROOM,
    'this.#isMuch(inUse, wanted) || this.#areMany || isFull;',
    'this.#areMany || isFull;',
    'history that somebody wants gives way',
  ),
  row(
    'that writes wait where history is made faster than it gives way',
    ['guest/kv/namespace/store.ts', ROOM[1]],
    'return this.intake === undefined ? run()',
    'return this.intake !== undefined ? run()',
    'writes faster than history gives way',
  ),
  row(
    'that one namespace leaves half of the room to others',
    INTAKE,
    '(own === 0 || own + needed - taken <= OF_ONE * room)',
    'own >= 0',
    'others find room meanwhile',
  ),
  row(
    'that a look is of what was written before it',
    INTAKE,
    'written: before.size > 0',
    'written: false',
    'until a look that began after it',
  ),
  row(
    "that the node's daemons wait for nobody's history",
    INTAKE,
    "!id.startsWith('d/') && (",
    '(',
    'do not wait, who has gone',
  ),
  row(
    'that changes of users and roles wait too',
    ['guest/kv/auth/namespace-auth.ts', 'guest/kv/auth/namespace-auth.test.ts'],
    'new NamespaceAuth(space, this.#upstream, this.#passwords, this.#admit)',
    'new NamespaceAuth(space, this.#upstream, this.#passwords, (_space, _bytes, run) => run())',
    'waits for room as a put does',
  ),
  row(
    "that a connection is its own app's only",
    APPS,
    'return (await this.#identify(socket, 0)).name === name;',
    "return (await this.#identify(socket, 0)).name !== '';",
    'address is another app',
  ),
  row(
    'that what nobody confirms lasts for a while only',
    APPS,
    'if (lasts <= 0) return this.#isOf(socket, caller, false);',
    'if (lasts <= 0) return this.#isOf(socket, caller, true);',
    'while nobody can say',
  ),
  row(
    'that nobody has to wait for an answer about a connection',
    APPS,
    'setTimeout(() => resolve(false), lasts)',
    'setTimeout(() => resolve(true), lasts)',
    'nor for longer where nobody answers',
  ),
  row(
    'that an app fills no log by calling',
    APPS,
    '    if (now - (this.#told.get(app) ?? Number.NEGATIVE_INFINITY) < TOLD_EVERY) return;\n',
    '',
    'is told of once an hour',
  ),
  row(
    'the namespace that a receipt has to be of',
    ['cli/commands/kv-ledger.ts', 'cli/commands/kv-ledger.test.ts'],
    '  if (namespace !== wanted)\n',
    "  if (namespace === '')\n",
    'takes the namespace that it has to be of',
  ),
  row(
    'the bound of answers that are not taken',
    ['guest/kv/api/unsent.ts', NEIGHBOURS],
    '    budget.take(bytes);\n',
    '',
    'answers that an app does not take',
  ),
  row(
    'the bound of streams of watches',
    ['guest/kv/namespace/watch-session.ts', NEIGHBOURS],
    "if (!store.streams.take(entered.space)) throw etcdError('tooManyRequests');",
    'store.streams.take(entered.space);',
    'so many streams, and no more',
  ),
  row(
    'that watches of long keys count by their length',
    ['guest/kv/namespace/watch-session.ts', NEIGHBOURS],
    'return 1 + Math.floor((key.length + rangeEnd.length) / KEYS_OF_ONE);',
    'return key.length + rangeEnd.length < 0 ? KEYS_OF_ONE : 1;',
    'watches of long keys',
  ),
  row(
    'that receipts are for users, where there are users',
    ['guest/kv/api/receipt.ts', NEIGHBOURS],
    '    auth.requireUser(call);\n    const mayRead',
    '    const mayRead',
    'nobody learns which revisions',
  ),
];
