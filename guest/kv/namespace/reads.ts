/**
 * What a request may make etcd read. Where what is known of the namespace does not show that it is little enough, it is measured first, a
 * page at a time and while the namespace is not written to, and refused if it is too much.
 */
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import type { KeyValue } from '../../../lib/etcd/gen/mvcc_pb.js';
import type { Upstream } from '../types.ts';
import { ceilingOf, costOf, type Read, readsOf } from './cost.ts';
import type { Operation } from './growth.ts';
import type { Keyspace } from './keyspace.ts';
import { Shares, type Waiter } from './shares.ts';
import { OF_A_KEY as COUNTED, type Usage } from './usage.ts';

const MIB = 1024 * 1024;
/** Bytes: what an answer may have. */
export const MOST_READ = 64 * MIB;
/** What one namespace has read at a time, and all of them together: etcd takes about four times of it, and has 1 GB. */
const AT_A_TIME = { one: MOST_READ, all: 96 * MIB };
/** Of keys, while it is measured. */
const PAGE = 64n;
/** What etcd's record of a key takes in an answer, besides the key and the value: less than is counted for what is kept. */
const OF_A_KEY = 64;

export class Reads {
  readonly #upstream: Upstream;
  readonly #usage: Usage;
  readonly #own = new Shares(AT_A_TIME.one);
  readonly #all = new Shares(AT_A_TIME.all);

  constructor(upstream: Upstream, usage: Usage) {
    this.#upstream = upstream;
    this.#usage = usage;
  }

  /** What a request costs at most; undefined where that has to be measured. */
  costOf(space: Keyspace, request: Operation): number | undefined {
    const reads = readsOf(request);
    if (reads.length === 0) return 0;
    const share = this.#usage.shareOf(space);
    // One that reads once reads the namespace at most. Of the owner, who has no bound, nothing is feared.
    if (share !== undefined && reads.length > 1 && ceilingOf(reads, share) > MOST_READ) return undefined;
    const cost = costOf(reads, this.#known(space));
    return cost > MOST_READ ? undefined : cost;
  }

  /**
   * What a request costs, exactly if need be. Nothing may be written to the namespace until it was sent.
   *
   * @throws RpcError for what is too much
   */
  async measure(space: Keyspace, request: Operation, waiter: Waiter): Promise<number> {
    const reads = readsOf(request);
    const estimate = costOf(reads, this.#known(space));
    if (estimate <= MOST_READ) return estimate;
    const weigh = async () => {
      const known = new Map<string, number>();
      let sum = 0;
      for (const read of reads) {
        const name = nameOf(read);
        const size = known.get(name) ?? (await this.#sizeOf(read, MOST_READ - sum));
        known.set(name, size);
        sum += size;
        if (sum > MOST_READ) throw etcdError('readTooLarge');
      }
      return sum;
    };
    return this.#weighing(space, this.#pageOf(space), weigh, waiter);
  }

  /** Runs what reads so much, once there is room for it. */
  async run<T>(space: Keyspace, cost: number, run: () => Promise<T>, waiter: Waiter): Promise<T> {
    return cost === 0 ? run() : this.#weighing(space, cost, run, waiter);
  }

  #weighing<T>({ id }: Keyspace, cost: number, run: () => Promise<T>, waiter: Waiter): Promise<T> {
    return this.#own.run(id, cost, () => this.#all.run('', cost, run, waiter), waiter);
  }

  #known(space: Keyspace) {
    const all = this.#usage.mostOf(space);
    return {
      all,
      ever: Math.max(all, this.#usage.shareOf(space) ?? 0),
      sizeOf: (key: Uint8Array) => this.#usage.sizeOf(key),
    };
  }

  /** What a page that is measured may come to. */
  #pageOf(space: Keyspace): number {
    return Math.min(MOST_READ, this.#known(space).ever);
  }

  /** Of what a read finds, up to when it is more than there is room for. */
  async #sizeOf({ key, rangeEnd, revision, limit }: Read, room: number): Promise<number> {
    // What is there now is known by its keys.
    const keysOnly = revision === 0n;
    let size = 0;
    let from = key;
    let left = limit;
    for (;;) {
      const page = { key: from, rangeEnd, revision, limit: limit > 0n && left < PAGE ? left : PAGE };
      const found = await this.#upstream.unary(KV.method.range, { ...page, keysOnly }).catch(noneThere);
      for (const kv of found.kvs)
        size +=
          OF_A_KEY + (keysOnly ? this.#usage.sizeOf(kv.key) - COUNTED : kv.key.length + kv.value.length);
      left -= BigInt(found.kvs.length);
      const last = found.kvs.at(-1);
      if (!found.more || last === undefined || size > room || (limit > 0n && left <= 0n)) return size;
      from = Uint8Array.from([...last.key, 0]);
    }
  }
}

const nameOf = ({ key, rangeEnd, revision, limit }: Read): string =>
  `${Buffer.from(key).toString('hex')}.${Buffer.from(rangeEnd).toString('hex')}.${revision}.${limit}`;

/** Of a revision that is compacted, or to come, etcd reads nothing: it says so to whom comes to it. */
function noneThere(error: unknown): { readonly kvs: readonly KeyValue[]; readonly more: boolean } {
  if (error instanceof RpcError && error.status === status.outOfRange) return { kvs: [], more: false };
  throw error;
}
