/** One client's stream of leases to keep alive over one of etcd's, which answers in order. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  LeaseKeepAliveRequest,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponse,
  LeaseKeepAliveResponseSchema,
} from '../../../lib/etcd/gen/lease_pb.js';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import type { Call } from '../types.ts';
import { headerOf } from './replies.ts';
import type { Store } from './store.ts';

export class KeepAlives {
  readonly #store: Store;
  readonly #call: Call;
  readonly #asked: bigint[] = [];

  constructor(store: Store, call: Call) {
    this.#store = store;
    this.#call = call;
  }

  /** What to ask etcd, one after the other. A lease that is not the namespace's is asked for as one that never was. */
  async request({
    ID,
  }: LeaseKeepAliveRequest): Promise<MessageInitShape<typeof LeaseKeepAliveRequestSchema>> {
    const id = await this.#store.leaseToKeep(this.#call, ID);
    this.#asked.push(ID);
    return { ID: id };
  }

  /** What to answer the client. */
  reply(reply: LeaseKeepAliveResponse): MessageInitShape<typeof LeaseKeepAliveResponseSchema> {
    return { ...headerOf(reply), ID: this.#asked.shift() ?? 0n, TTL: reply.TTL };
  }
}

/** Keeps a lease alive, once. The seconds that it then has to live; 0 if there is none. */
export async function keepAlive(store: Store, call: Call, ID: bigint): Promise<bigint> {
  const id = await store.leaseToKeep(call, ID);
  const stream = store.upstream.stream(Lease.method.leaseKeepAlive, {
    signal: call.signal,
    deadline: call.deadline,
  });
  try {
    stream.send({ ID: id });
    for await (const { TTL } of stream) return TTL;
    return 0n;
  } finally {
    stream.close();
  }
}
