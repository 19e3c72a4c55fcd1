/**
 * Compaction of a namespace is a floor: what was before it is gone for the namespace. Etcd itself, which has one history for all, is
 * compacted below the lowest floor and no further than the ledger's tiles are on the disk.
 *
 * One revision less than that: 3.5.16 can lose the deletion of a key for a watch that begins at the very revision of the compaction.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { etcdError, RpcError } from '../../../lib/etcd/errors.ts';
import {
  type CompactionRequest,
  type CompactionResponseSchema,
  Compare_CompareTarget,
  KV,
} from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Upstream, UpstreamOptions } from '../types.ts';
import { Keyspace, prefixEnd } from './keyspace.ts';
import { FLOORS, floorKey } from './own-keys.ts';
import { headerOf } from './replies.ts';

/** Of a namespace that was never compacted, as etcd has it. */
export const NOT_COMPACTED = -1n;

interface Floor {
  readonly revision: bigint;
  /** Of the key that holds it; 0 while there is none. */
  readonly modRevision: bigint;
}

export class Floors {
  readonly #upstream: Upstream;
  readonly #durable: () => bigint;
  readonly #onCompacted: (revision: bigint) => void;
  readonly #floors: Map<string, Floor>;
  readonly #registering = new Map<string, Promise<void>>();
  #physical: Promise<void> = Promise.resolve();

  private constructor(
    upstream: Upstream,
    durable: () => bigint,
    onCompacted: (revision: bigint) => void,
    floors: Map<string, Floor>,
  ) {
    this.#upstream = upstream;
    this.#durable = durable;
    this.#onCompacted = onCompacted;
    this.#floors = floors;
  }

  /** @param durable the revision that etcd may be compacted to at most @param onCompacted told how far it was */
  static async open(
    upstream: Upstream,
    durable: () => bigint,
    onCompacted: (revision: bigint) => void = () => {},
  ): Promise<Floors> {
    const { kvs } = await upstream.unary(KV.method.range, { key: FLOORS, rangeEnd: prefixEnd(FLOORS) });
    const floors = kvs.map(({ key, value, modRevision }) => {
      const { id } = new Keyspace(key.subarray(FLOORS.length));
      return [id, { revision: parsed(value), modRevision }] as const;
    });
    return new Floors(upstream, durable, onCompacted, new Map(floors));
  }

  of({ id }: Keyspace): bigint {
    return this.#floors.get(id)?.revision ?? NOT_COMPACTED;
  }

  /** Notes that a namespace is written to: from then on its history is kept until it lets go of it. */
  async register(space: Keyspace): Promise<void> {
    if (this.#floors.has(space.id)) return;
    const under = this.#registering.get(space.id) ?? this.#load(space);
    this.#registering.set(space.id, under);
    await under.finally(() => this.#registering.delete(space.id));
  }

  async #load(space: Keyspace): Promise<void> {
    await this.#set(space, NOT_COMPACTED, 0n);
    if (!this.#floors.has(space.id)) await this.#read(space);
  }

  /**
   * Raises a namespace's floor, and compacts etcd as far as that allows.
   *
   * @throws RpcError as etcd, for a revision that is compacted or to come
   */
  async compact(
    space: Keyspace,
    { revision, physical }: CompactionRequest,
    options?: UpstreamOptions,
  ): Promise<MessageInitShape<typeof CompactionResponseSchema>> {
    for (;;) {
      const { header } = await this.#read(space, options);
      const { revision: floor, modRevision } = this.#floors.get(space.id)!;
      if (revision <= floor) throw etcdError('compacted');
      if (revision > (header?.revision ?? 0n)) throw etcdError('futureRevision');
      const raised = await this.#set(space, revision, modRevision, options);
      if (raised === undefined) continue;
      await this.compactEtcd(physical);
      return headerOf(raised);
    }
  }

  /** Reads a floor from etcd. */
  async #read(space: Keyspace, options?: UpstreamOptions) {
    const reply = await this.#upstream.unary(KV.method.range, { key: floorKey(space) }, options);
    const [kv] = reply.kvs;
    this.#floors.set(
      space.id,
      kv === undefined
        ? { revision: NOT_COMPACTED, modRevision: 0n }
        : { revision: parsed(kv.value), modRevision: kv.modRevision },
    );
    return reply;
  }

  /** Writes a floor, unless another was written since; the reply if it did. */
  async #set(space: Keyspace, revision: bigint, modRevision: bigint, options?: UpstreamOptions) {
    const key = floorKey(space);
    const reply = await this.#upstream.unary(
      KV.method.txn,
      {
        compare: [
          {
            key,
            target: Compare_CompareTarget.MOD,
            targetUnion: { case: 'modRevision', value: modRevision },
          },
        ],
        success: [{ request: { case: 'requestPut', value: { key, value: utf8(String(revision)) } } }],
      },
      options,
    );
    if (!reply.succeeded) return undefined;
    this.#floors.set(space.id, { revision, modRevision: reply.header?.revision ?? 0n });
    return reply;
  }

  /**
   * Compacts etcd as far as it may be now; the ledger's progress allows more from time to time. One at a time.
   *
   * @param physical waits until what is compacted is deleted
   */
  async compactEtcd(physical = false): Promise<void> {
    await this.#inTurn(() => this.#compactEtcd(this.#lowest(), physical));
  }

  /**
   * Compacts etcd as far as the ledger allows, whoever still wants what was before. It is told as of etcd's own compaction.
   *
   * @param kept so many of the last revisions stay
   */
  async dropHistory(kept: bigint): Promise<void> {
    await this.#inTurn(() => this.#compactEtcd(this.#durable() - kept, true));
  }

  async #inTurn(run: () => Promise<void>): Promise<void> {
    const turn = this.#physical.then(run);
    this.#physical = turn.catch(() => {});
    await turn;
  }

  async #compactEtcd(below: bigint, physical: boolean): Promise<void> {
    const target = below - 1n;
    if (target <= 0n) return;
    await this.#upstream.unary(KV.method.compact, { revision: target, physical }).catch((error: unknown) => {
      // It has been that far.
      if (!(error instanceof RpcError && error.message === etcdError('compacted').message)) throw error;
    });
    this.#onCompacted(target);
  }

  #lowest(): bigint {
    let lowest = this.#durable();
    for (const { revision } of this.#floors.values()) if (revision < lowest) lowest = revision;
    return lowest;
  }
}

function parsed(value: Uint8Array): bigint {
  const text = Buffer.from(value).toString('latin1');
  if (!/^-?\d{1,19}$/.test(text))
    throw new DstackError(
      'KV_FLOOR',
      `the floor ${JSON.stringify(text)} in etcd is not a number: the store was damaged`,
    );
  return BigInt(text);
}
