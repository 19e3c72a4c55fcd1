/** The store as the signer needs it: keys whose values are replaced only by who knows the last one. Over etcd's API and nothing else. */
import { SIGNER_PREFIX } from '../../lib/cometbft/sign-state.ts';
import { type EtcdClient, isAway } from '../../lib/etcd/client.ts';
import { Cluster } from '../../lib/etcd/gen/cluster_pb.js';
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  KV,
  type RangeResponse,
} from '../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** A value, and the revision that it was written at. */
export interface Stored {
  readonly value: string;
  readonly revision: bigint;
}

export type Swapped =
  | { readonly written: true; readonly revision: bigint }
  /** As it is instead. */
  | { readonly written: false; readonly current: Stored | undefined };

/** Whatever is thrown, a swap may have taken place. */
export interface Records {
  /** The newest value, by a quorum. */
  read(key: string, signal?: AbortSignal): Promise<Stored | undefined>;
  /**
   * Writes if what is there is still `before`; undefined: if there is nothing. Its value counts beside its revision: a store that was put
   * back to an old copy gives out the same revisions again.
   */
  swap(key: string, before: Stored | undefined, value: string, signal?: AbortSignal): Promise<Swapped>;
}

export class EtcdRecords implements Records {
  readonly #client: EtcdClient;
  readonly #prefix: string;

  constructor(client: EtcdClient, prefix = SIGNER_PREFIX) {
    this.#client = client;
    this.#prefix = prefix;
  }

  async read(key: string, signal?: AbortSignal): Promise<Stored | undefined> {
    return this.#ofAnyMember(async () =>
      storedOf(await this.#client.call(KV.method.range, { key: this.#key(key) }, signal)),
    );
  }

  async swap(key: string, before: Stored | undefined, value: string, signal?: AbortSignal): Promise<Swapped> {
    const name = this.#key(key);
    const answer = await this.#client.call(
      KV.method.txn,
      {
        compare: isStill(name, before),
        success: [{ request: { case: 'requestPut', value: { key: name, value: utf8(value) } } }],
        failure: [{ request: { case: 'requestRange', value: { key: name } } }],
      },
      signal,
    );
    if (answer.succeeded && answer.header !== undefined)
      return { written: true, revision: answer.header.revision };
    const response = answer.responses[0]?.response;
    if (answer.succeeded || response?.case !== 'responseRange')
      throw new DstackError('STORE_ANSWER', 'the store answered something else than what it was asked');
    return { written: false, current: storedOf(response.value) };
  }

  /** Members that vote. */
  async members(signal?: AbortSignal): Promise<number> {
    const { members } = await this.#ofAnyMember(() =>
      this.#client.call(Cluster.method.memberList, { linearizable: true }, signal),
    );
    return members.filter(({ isLearner }) => !isLearner).length;
  }

  /** What changes nothing is asked of each member, until one answers. */
  async #ofAnyMember<T>(ask: () => Promise<T>): Promise<T> {
    for (let left = this.#client.endpoints.length; ; left -= 1) {
      try {
        return await ask();
      } catch (error) {
        if (left === 1 || !isAway(error)) throw error;
      }
    }
  }

  #key(key: string): Uint8Array {
    return utf8(`${this.#prefix}${key}`);
  }
}

function isStill(key: Uint8Array, before: Stored | undefined) {
  const equal = { key, result: Compare_CompareResult.EQUAL };
  const revision = {
    ...equal,
    target: Compare_CompareTarget.MOD,
    targetUnion: { case: 'modRevision' as const, value: before?.revision ?? 0n },
  };
  if (before === undefined) return [revision];
  const value = {
    ...equal,
    target: Compare_CompareTarget.VALUE,
    targetUnion: { case: 'value' as const, value: utf8(before.value) },
  };
  return [revision, value];
}

function storedOf({ kvs: [found] }: RangeResponse): Stored | undefined {
  return found && { value: Buffer.from(found.value).toString('utf8'), revision: found.modRevision };
}
