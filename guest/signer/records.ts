/** The store as the signer needs it: keys whose values are replaced only by who knows the last one. Over etcd's API and nothing else. */
import type { EtcdClient } from '../../lib/etcd/client.ts';
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
  /** Writes if the key's value is still of that revision; 0: if there is none. */
  swap(key: string, revision: bigint, value: string, signal?: AbortSignal): Promise<Swapped>;
}

export class EtcdRecords implements Records {
  readonly #client: EtcdClient;
  readonly #prefix: string;

  constructor(client: EtcdClient, prefix = 'signer/') {
    this.#client = client;
    this.#prefix = prefix;
  }

  async read(key: string, signal?: AbortSignal): Promise<Stored | undefined> {
    return storedOf(await this.#client.call(KV.method.range, { key: this.#key(key) }, signal));
  }

  async swap(key: string, revision: bigint, value: string, signal?: AbortSignal): Promise<Swapped> {
    const name = this.#key(key);
    const answer = await this.#client.call(
      KV.method.txn,
      {
        compare: [
          {
            key: name,
            target: Compare_CompareTarget.MOD,
            result: Compare_CompareResult.EQUAL,
            targetUnion: { case: 'modRevision', value: revision },
          },
        ],
        success: [{ request: { case: 'requestPut', value: { key: name, value: utf8(value) } } }],
        failure: [{ request: { case: 'requestRange', value: { key: name } } }],
      },
      signal,
    );
    if (answer.succeeded) return { written: true, revision: answer.header!.revision };
    const { response } = answer.responses[0]!;
    if (response.case !== 'responseRange')
      throw new DstackError('STORE_ANSWER', 'the store answered something else');
    return { written: false, current: storedOf(response.value) };
  }

  /** Members that vote. */
  async members(signal?: AbortSignal): Promise<number> {
    const { members } = await this.#client.call(Cluster.method.memberList, { linearizable: true }, signal);
    return members.filter(({ isLearner }) => !isLearner).length;
  }

  #key(key: string): Uint8Array {
    return utf8(`${this.#prefix}${key}`);
  }
}

function storedOf({ kvs: [found] }: RangeResponse): Stored | undefined {
  return found && { value: Buffer.from(found.value).toString('utf8'), revision: found.modRevision };
}
