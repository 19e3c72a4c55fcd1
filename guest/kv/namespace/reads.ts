/**
 * What a request may make etcd read. Where what is known of the namespace does not show that it is little enough, it is measured first,
 * while the namespace is not written to, and refused if it is too much, or if that would take too long to find out.
 */
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import type { RangeResponse } from '../../../lib/etcd/gen/kv_pb.js';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import type { Upstream } from '../types.ts';
import { ceilingOf, costOf, OF_A_VISIT, type Read, rangesOf, readsOf, shownOf } from './cost.ts';
import type { Growth, Operation } from './growth.ts';
import type { Keyspace } from './keyspace.ts';
import { Shares, type Waiter } from './shares.ts';
import { OF_A_KEY as COUNTED, type Usage } from './usage.ts';

const MIB = 1024 * 1024;
/** Bytes: what an answer may have. */
export const MOST_READ = 64 * MIB;
/** What one namespace has read at a time, and all of them together: etcd takes about four times of it, and has 1 GB. */
const AT_A_TIME = { one: MOST_READ, all: 96 * MIB };
/** Of keys, while a namespace is measured that keeps more than may be read at once; and how many of them at most. */
const PAGE = { keys: 64n, most: 256 };
/** What etcd's record of a key takes in an answer, besides the key and the value: less than is counted for what is kept. */
const OF_A_KEY = 64;
/** How many keys that are deleted, and not compacted, a request may make etcd visit: a second of its time. */
const DELETED_VISITS = 2_000_000;

/** Streams of the namespace's watches: each is told of what is put. */
export interface Watching {
  readonly streams: number;
  /** Those that are told what was before, too. */
  readonly previous: number;
}

/** What a request is about to make of etcd. */
export interface Asked {
  readonly request: Operation;
  readonly growth: Growth;
  readonly watching: Watching;
}

export class Reads {
  readonly #upstream: Upstream;
  readonly #usage: Usage;
  readonly #own = new Shares(AT_A_TIME.one);
  readonly #all = new Shares(AT_A_TIME.all);

  constructor(upstream: Upstream, usage: Usage) {
    this.#upstream = upstream;
    this.#usage = usage;
  }

  /**
   * What a request costs at most; undefined where that has to be measured.
   *
   * @throws RpcError for what is too much, however little is found
   */
  costOf(space: Keyspace, asked: Asked): number | undefined {
    const told = asked.watching.streams * asked.growth.written;
    if (told > MOST_READ) throw etcdError('readTooLarge');
    const reads = readsOf(asked.request);
    const shown = shownBy(asked);
    if (reads.length + shown.length === 0) return told;
    const share = this.#usage.shareOf(space);
    const ranges = rangesOf(reads);
    const deleted = ranges * this.#deletedOf(space);
    if (ranges > 1 && deleted > DELETED_VISITS) throw etcdError('readTooLarge');
    // One that reads once reads the namespace at most.
    if (share !== undefined && reads.length > 1 && ceilingOf(reads, share) > MOST_READ) return undefined;
    const known = this.#known(space);
    const least = { ...known, keys: ranges > 1 ? known.keys : 0 };
    if (told + costOf(reads, least) + costOf(shown, least) > MOST_READ) return undefined;
    return told + costOf(reads, known) + costOf(shown, known) + OF_A_VISIT * deleted;
  }

  /** Of the owner, who has no bound, nothing is feared. */
  #deletedOf(space: Keyspace): number {
    return this.#usage.shareOf(space) === undefined ? 0 : this.#usage.deletedOf(space);
  }

  /**
   * What a request costs, exactly if need be. Nothing may be written to the namespace until it was sent.
   *
   * @throws RpcError for what is too much
   */
  async measure(space: Keyspace, asked: Asked, waiter: Waiter): Promise<number> {
    const own = readsOf(asked.request);
    const reads = [...own, ...shownBy(asked)];
    const told = asked.watching.streams * asked.growth.written;
    const estimate = told + costOf(reads, this.#known(space));
    if (estimate <= MOST_READ) return estimate;
    // A single range may have as many keys as there are.
    const ofAVisit = rangesOf(own) > 1 ? OF_A_VISIT : 0;
    const weigh = async () => {
      const known = new Map<string, { bytes: number; keys: number }>();
      let sum = told;
      for (const read of reads) {
        const name = nameOf(read);
        const size = known.get(name) ?? (await this.#sizeOf(space, read, MOST_READ - sum, waiter));
        known.set(name, size);
        sum += read.times * size.bytes + ofAVisit * size.keys;
        if (sum > MOST_READ) throw etcdError('readTooLarge');
      }
      return sum;
    };
    return this.run(space, this.#pageOf(space), weigh, waiter);
  }

  /** Runs what reads so much, once there is room for it. What is more than may be read counts as that. */
  async run<T>({ id }: Keyspace, cost: number, run: () => Promise<T>, waiter: Waiter): Promise<T> {
    if (cost === 0) return run();
    const weight = Math.min(cost, MOST_READ);
    return this.#own.run(id, weight, () => this.#all.run('', weight, run, waiter), waiter);
  }

  #known(space: Keyspace) {
    const all = this.#usage.mostOf(space);
    const share = this.#usage.shareOf(space);
    return {
      all,
      ever: Math.max(all, share ?? 0),
      keys: share === undefined ? 0 : this.#usage.keysOf(space),
      sizeOf: (key: Uint8Array) => this.#usage.sizeOf(key),
    };
  }

  /** What a page that is measured may come to. */
  #pageOf(space: Keyspace): number {
    return Math.min(MOST_READ, this.#known(space).ever);
  }

  /** Of what a read finds, up to when it is more than there is room for. @throws RpcError */
  async #sizeOf(
    space: Keyspace,
    { key, rangeEnd, revision, limit, times }: Read,
    room: number,
    { signal }: Waiter,
  ): Promise<{ bytes: number; keys: number }> {
    if (times === 0) {
      const request = { key, rangeEnd, revision, countOnly: true };
      const { count } = await this.#upstream.unary(KV.method.range, request, { signal }).catch(noneThere);
      return { bytes: 0, keys: Number(count) };
    }
    // What is there now is known by its keys.
    const keysOnly = revision === 0n;
    // Etcd visits all that follows for each page: where everything may be read at once, it is one.
    const most = this.#known(space).ever <= MOST_READ ? 0n : PAGE.keys;
    let keys: number | undefined;
    let bytes = 0;
    let from = key;
    let left = limit;
    for (let pages = 0; pages < PAGE.most; pages += 1) {
      const page = {
        key: from,
        rangeEnd,
        revision,
        limit: left > 0n && (most === 0n || left < most) ? left : most,
      };
      const found = await this.#upstream
        .unary(KV.method.range, { ...page, keysOnly }, { signal })
        .catch(noneThere);
      keys ??= Number(found.count);
      for (const kv of found.kvs)
        bytes +=
          OF_A_KEY + (keysOnly ? this.#usage.sizeOf(kv.key) - COUNTED : kv.key.length + kv.value.length);
      left -= BigInt(found.kvs.length);
      const last = found.kvs.at(-1);
      if (!found.more || last === undefined || times * bytes > room || (limit > 0n && left <= 0n))
        return { bytes, keys };
      from = Uint8Array.from([...last.key, 0]);
    }
    throw etcdError('readTooLarge');
  }
}

/** What watchers are shown of the past. */
function shownBy({ request, watching }: Asked): Read[] {
  return watching.previous > 0 ? shownOf(request, watching.previous) : [];
}

const nameOf = ({ key, rangeEnd, revision, limit, times }: Read): string =>
  `${Buffer.from(key).toString('hex')}.${Buffer.from(rangeEnd).toString('hex')}.${revision}.${limit}.${times > 0}`;

/** Of a revision that is compacted, or to come, etcd reads nothing: it says so to whom comes to it. */
function noneThere(error: unknown): Pick<RangeResponse, 'kvs' | 'more' | 'count'> {
  if (error instanceof RpcError && error.status === status.outOfRange)
    return { kvs: [], more: false, count: 0n };
  throw error;
}
