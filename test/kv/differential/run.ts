/**
 * The same random requests to namespaces of the store and, of each namespace, to a bare etcd of its own: the answers have to be the
 * same, but for what each side numbers for itself. The namespaces take turns, use the same keys, and the same lease ids.
 */
import { Random } from '../../torture/random.ts';
import { authenticating, disabling, enabling, randomAuthRequest } from './auth-operations.ts';
import { type Asked, type Known, randomRequest } from './operations.ts';
import { RevisionMap } from './revisions.ts';
import { type Identity, identities, type Outcome, Side } from './side.ts';
import { randomWatch, show, Watches } from './watches.ts';

/** Two servers that have to look alike: host and port. */
export interface Pair {
  readonly store: string;
  readonly bare: string;
}

export interface Differential {
  readonly operations: number;
  /** Of which both refused. */
  readonly refused: number;
  /** Of watches. */
  readonly messages: number;
  /** What differs on purpose, by why. */
  readonly explained: Readonly<Record<string, number>>;
  readonly differences: string[];
}

const INVALID = 3;
const DENIED = 7;

/** Why the answers differ on purpose; see the tables in guest/kv/namespace/README.md and guest/kv/auth/README.md. */
function explanation(method: string, request: unknown, ours: Outcome, theirs: Outcome): string | undefined {
  if (!ours.refused || !theirs.refused) return undefined;
  if (method === 'UserGet' && (request as { name: string }).name === '')
    return 'a user without a name is refused';
  // Which is named first of two reasons differs.
  const codes = [ours.refused.code, theirs.refused.code];
  if (codes.every((code) => code === INVALID || code === DENIED))
    return 'refused by both, for another of its faults';
  return undefined;
}

/** The part of a run in which nobody has a name. */
const WITHOUT_USERS = 0.7;

/** After so many the rest follows from the first ones. */
const ENOUGH = 10;

/** `operations` of each pair. */
export async function compareRandomly(
  pairs: readonly Pair[],
  seed: number,
  operations: number,
): Promise<Differential> {
  const random = new Random(seed);
  const namespaces = pairs.map((pair, n) => new Namespace(pair, `${n}`, random));
  try {
    let done = 0;
    while (done < operations * pairs.length) {
      // The last part is played with users.
      if (done === Math.floor(operations * pairs.length * WITHOUT_USERS))
        for (const namespace of namespaces) await namespace.enableUsers();
      const namespace = random.pick(namespaces);
      await namespace.next();
      done += 1;
      if (namespaces.some(({ differences }) => differences.length >= ENOUGH)) break;
    }
    for (const namespace of namespaces) await namespace.finish();
    const sum = (of: (one: Namespace) => number) => namespaces.reduce((total, one) => total + of(one), 0);
    return {
      operations: done,
      refused: sum(({ refused }) => refused),
      messages: sum(({ messages }) => messages),
      explained: total(namespaces.map(({ explained }) => explained)),
      differences: namespaces.flatMap(({ differences }) => differences),
    };
  } finally {
    for (const namespace of namespaces) namespace.close();
  }
}

function total(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const [why, count] of all.flatMap((one) => Object.entries(one))) sums[why] = (sums[why] ?? 0) + count;
  return sums;
}

class Namespace {
  readonly differences: string[] = [];
  refused = 0;
  readonly explained: Record<string, number> = {};
  readonly #name: string;
  readonly #random: Random;
  readonly #revisions = new RevisionMap();
  readonly #store: Side;
  readonly #bare: Side;
  readonly #watches: Watches;
  #compacted = 0n;
  #number = 0;
  #users = false;
  #watchCount = 0;

  constructor({ store, bare }: Pair, name: string, random: Random) {
    this.#name = name;
    this.#random = random;
    this.#store = new Side(store, true, this.#revisions);
    this.#bare = new Side(bare, false, this.#revisions);
    this.#watches = new Watches(this.#store, this.#bare);
  }

  get messages(): number {
    return this.#watches.compared;
  }

  async next(): Promise<void> {
    this.#number += 1;
    const value = `${this.#name}.${this.#number}`;
    const kind = this.#random.between(0, 99);
    if (this.#users) await this.#nextOfUser(value);
    else if (kind < 4) {
      this.#watchCount += 1;
      await this.#watches.create(randomWatch(this.#random, this.#known()));
    } else if (kind < 5 && this.#watchCount > 0)
      await this.#watches.cancel(BigInt(this.#random.between(0, this.#watchCount)));
    else {
      const asked = randomRequest(this.#random, this.#known(), value);
      // What a watch that lags behind sees of compacted revisions depends on time.
      if (asked.method.name === 'Compact') await this.#settle();
      await this.#ask(asked, 'nobody');
    }
  }

  /** Users begin to count: from now on requests are root's, alice's and of those who say no name. */
  async enableUsers(): Promise<void> {
    await this.#settle();
    // What a watch of before is told from now on, an etcd does not check.
    this.#watches.close();
    for (const asked of enabling()) await this.#ask(asked, 'nobody');
    for (const name of ['root', 'alice'] as const) await this.#authenticate(name);
    this.#users = true;
  }

  async finish(): Promise<void> {
    if (this.#users) await this.#ask(disabling(), 'root');
    else await this.#settle();
  }

  async #nextOfUser(value: string): Promise<void> {
    const identity = this.#random.pick(identities);
    const known = this.#known();
    if (this.#random.chance(0.3)) await this.#ask(randomAuthRequest(this.#random), identity);
    else
      await this.#ask(randomRequest(this.#random, { ...known, plain: identity !== 'root' }, value), identity);
  }

  async #authenticate(name: 'root' | 'alice'): Promise<void> {
    const outcomes = await this.#ask(authenticating(name), 'nobody');
    for (const [n, side] of [this.#store, this.#bare].entries())
      side.clients[name].token = (outcomes[n]!.answer as { token: string } | undefined)?.token;
  }

  close(): void {
    this.#watches.close();
    this.#store.close();
    this.#bare.close();
  }

  #known(): Known {
    return {
      revision: this.#revisions.newestBare,
      compacted: this.#compacted,
      leases: this.#bare.leases.length,
    };
  }

  async #settle(): Promise<void> {
    for (const difference of await this.#watches.settle()) this.#note('watch', difference);
  }

  async #ask({ method, request }: Asked, identity: Identity): Promise<readonly [Outcome, Outcome]> {
    const [store, bare] = [this.#store, this.#bare];
    const [ours, theirs] = (await Promise.all(
      [store, bare].map((side) => side.ask(method, request(side), identity)),
    )) as [Outcome, Outcome];
    if (theirs.refused) this.refused += 1;
    this.#learn(ours, theirs);
    if (method.name === 'LeaseGrant' && ours.answer && theirs.answer) {
      store.leases.push((ours.answer as { ID: bigint }).ID);
      bare.leases.push((theirs.answer as { ID: bigint }).ID);
    }
    if (method.name === 'Compact' && theirs.answer)
      this.#compacted = (request(bare) as { revision: bigint }).revision;
    const [left, right] = [sorted(store.normal(ours)), sorted(bare.normal(theirs))];
    if (show(left) === show(right)) return [ours, theirs];
    const why = explanation(method.name, request(bare), ours, theirs);
    if (why !== undefined) this.explained[why] = (this.explained[why] ?? 0) + 1;
    else
      this.#note(method.name, `${short(bare.normal(request(bare)))}: ${short(left)}, etcd ${short(right)}`);
    return [ours, theirs];
  }

  /** A new revision of the bare etcd is the one that the store answered. */
  #learn(ours: Outcome, theirs: Outcome): void {
    const revisionOf = ({ answer }: Outcome) =>
      (answer as { header?: { revision: bigint } } | undefined)?.header?.revision;
    const [store, bare] = [revisionOf(ours), revisionOf(theirs)];
    if (store === undefined || bare === undefined || bare <= this.#revisions.newestBare) return;
    this.#note('revision', this.#revisions.learn(store, bare));
  }

  #note(what: string, difference: string | undefined): void {
    if (difference !== undefined)
      this.differences.push(
        `namespace ${this.#name}, operation ${this.#number}, ${what}: ${difference.slice(0, 5_000)}`,
      );
  }
}

const short = (value: unknown): string =>
  show(value)
    .replace(/(.)\1{30,}/g, '$1…')
    .slice(0, 1_500);

/** Leases are listed in no order. */
function sorted(value: unknown): unknown {
  const { answer } = value as { answer?: { leases?: unknown[] } };
  if (answer?.leases === undefined) return value;
  return { answer: { ...answer, leases: answer.leases.toSorted((a, b) => (show(a) < show(b) ? -1 : 1)) } };
}
