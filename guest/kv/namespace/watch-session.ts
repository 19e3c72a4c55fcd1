/**
 * One client's watch stream over one of etcd's. Each watch is allowed when it is created, and again when users or roles change: etcd
 * goes on telling a user who may not read any longer, this does not.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import {
  Watch,
  type WatchCreateRequest,
  type WatchRequest,
  type WatchRequestSchema,
  type WatchResponse,
  type WatchResponseSchema,
} from '../../../lib/etcd/gen/watch_pb.js';
import type { NamespaceAuth } from '../auth/namespace-auth.ts';
import type { Call } from '../types.ts';
import type { KeyRange, Keyspace } from './keyspace.ts';
import type { Store } from './store.ts';
import { WatchParts } from './watch-parts.ts';
import { refusedWatch, watchedRange, watchReply, watchUpstream } from './watches.ts';

/** Bytes. */
const KEYS_OF_ONE = 1024;

export interface WatchEnds {
  readonly etcd: (request: MessageInitShape<typeof WatchRequestSchema>) => void;
  /** Resolves when the client can take more. */
  readonly client: (reply: MessageInitShape<typeof WatchResponseSchema>) => Promise<void>;
}

/** One watch: what it is of, and what of it waits to be told; nothing where the client takes it in parts. */
interface Watched {
  readonly range: KeyRange;
  readonly parts: WatchParts | undefined;
}

/** As how many a watch counts: its keys are held here and by etcd as long as it is open. */
function weightOf({ key, rangeEnd }: KeyRange): number {
  return 1 + Math.floor((key.length + rangeEnd.length) / KEYS_OF_ONE);
}

export class WatchSession {
  readonly #store: Store;
  readonly #call: Call;
  readonly #ends: WatchEnds;
  readonly #space: Keyspace;
  readonly #auth: NamespaceAuth;
  /** What is asked of etcd and not answered yet: it answers in order. */
  readonly #asked: Watched[] = [];
  readonly #watches = new Map<bigint, Watched>();
  /** Cancelled because the user may not read them any longer, and why. */
  readonly #ended = new Map<bigint, string>();
  readonly #stopListening: () => void;
  #closed = false;
  #tellsPrevious = false;

  private constructor(
    store: Store,
    call: Call,
    ends: WatchEnds,
    entered: Awaited<ReturnType<Store['enter']>>,
  ) {
    this.#store = store;
    this.#call = call;
    this.#ends = ends;
    this.#space = entered.space;
    this.#auth = entered.auth;
    this.#stopListening = this.#auth.onChange(() => {
      for (const [id, { range }] of this.#watches) this.#recheck(id, range);
    });
  }

  /** @throws RpcError "too many requests" for more streams than a namespace may have */
  static async open(store: Store, call: Call, ends: WatchEnds): Promise<WatchSession> {
    const entered = await store.enter(call);
    if (!store.streams.take(entered.space)) throw etcdError('tooManyRequests');
    store.watching.take(entered.space);
    return new WatchSession(store, call, ends, entered);
  }

  /** To be called when the stream has ended. */
  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#store.streams.release(this.#space);
    this.#store.watching.release(this.#space);
    if (this.#tellsPrevious) this.#store.watchingPrevious.release(this.#space);
    for (const { range } of [...this.#asked, ...this.#watches.values()]) this.#release(range);
    this.#asked.length = 0;
    this.#watches.clear();
  }

  #release(range: KeyRange): void {
    this.#store.watches.release(this.#space, weightOf(range));
  }

  /** What the client asks for. One after the other. */
  async request({ requestUnion }: WatchRequest): Promise<void> {
    if (requestUnion.case === 'createRequest') await this.#create(requestUnion.value);
    else if (requestUnion.case === 'cancelRequest') {
      const { watchId } = requestUnion.value;
      this.#ends.etcd({ requestUnion: { case: 'cancelRequest', value: { watchId } } });
    } else if (requestUnion.case === 'progressRequest')
      this.#ends.etcd({ requestUnion: { case: 'progressRequest', value: {} } });
  }

  async #create(request: WatchCreateRequest): Promise<void> {
    const range = watchedRange(request);
    if (this.#auth.state.enabled) {
      const header = await this.#auth.refresh(this.#call);
      const reason = this.#refusal(range);
      if (reason !== undefined) return this.#ends.client(refusedWatch({ header }, reason));
    }
    // What is counted from here on would be released by nobody.
    if (this.#closed) return;
    if (!this.#store.watches.take(this.#space, weightOf(range)))
      return this.#ends.client(refusedWatch({}, reasonOf(etcdError('tooManyRequests'))));
    if (request.prevKv && !this.#tellsPrevious) {
      this.#tellsPrevious = true;
      this.#store.watchingPrevious.take(this.#space);
    }
    this.#asked.push({ range, parts: request.fragment ? undefined : new WatchParts() });
    const value = watchUpstream(this.#store.scope(this.#space), request);
    this.#ends.etcd({ requestUnion: { case: 'createRequest', value } });
  }

  /** Why who calls may not read there, as etcd says it to a watch; undefined if it may. */
  #refusal({ key, rangeEnd }: KeyRange): string | undefined {
    try {
      this.#auth.authorize(this.#call, [{ kind: 'read', key, rangeEnd }]);
      return undefined;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** What etcd answers, as the client sees it. @throws KV_FOREIGN_KEY, upon which the stream has to end */
  async reply(reply: WatchResponse): Promise<void> {
    this.#note(reply);
    const parts = this.#watches.get(reply.watchId)?.parts;
    const told = parts === undefined || reply.events.length === 0 ? reply : parts.take(reply);
    if (told === undefined) return;
    const answer = watchReply(this.#store.scope(this.#space), told);
    const reason = this.#ended.get(reply.watchId);
    if (reason === undefined) return this.#ends.client(answer);
    // Between a permission's end and etcd's answer to the cancellation nothing is told.
    if (!reply.canceled) return;
    this.#ended.delete(reply.watchId);
    await this.#ends.client({ ...answer, cancelReason: reason });
  }

  #note({ created, canceled, watchId }: WatchResponse): void {
    if (created) {
      const watched = this.#asked.shift();
      if (watched === undefined)
        throw new RpcError(status.internal, 'etcdserver: a watch was created that was not asked for');
      if (canceled) this.#release(watched.range);
      else this.#begin(watchId, watched);
      return;
    }
    const watched = this.#watches.get(watchId);
    if (!canceled || watched === undefined) return;
    this.#watches.delete(watchId);
    this.#release(watched.range);
  }

  #begin(id: bigint, watched: Watched): void {
    this.#watches.set(id, watched);
    // Users and roles may have changed since it was asked for.
    this.#recheck(id, watched.range);
  }

  #recheck(id: bigint, range: KeyRange): void {
    const reason = this.#refusal(range);
    if (reason === undefined || this.#ended.has(id)) return;
    this.#ended.set(id, reason);
    this.#ends.etcd({ requestUnion: { case: 'cancelRequest', value: { watchId: id } } });
  }
}

const names: Partial<Record<number, string>> = {
  [status.invalidArgument]: 'InvalidArgument',
  [status.permissionDenied]: 'PermissionDenied',
  [status.resourceExhausted]: 'ResourceExhausted',
  [status.unauthenticated]: 'Unauthenticated',
};

/** A refusal as Go's gRPC prints it: that is what etcd gives for a reason. */
function reasonOf(error: unknown): string {
  const { status: code, message } = error instanceof RpcError ? error : etcdError('permissionDenied');
  return `rpc error: code = ${names[code] ?? 'Unknown'} desc = ${message}`;
}

/** The answers to one watch, from a stream of its own that ends with the iteration. @throws RpcError if it is cancelled */
export async function* watching(
  store: Store,
  call: Call,
  create: WatchCreateRequest,
): AsyncGenerator<MessageInitShape<typeof WatchResponseSchema>> {
  const stream = store.upstream.stream(Watch.method.watch, { signal: call.signal });
  const answers: MessageInitShape<typeof WatchResponseSchema>[] = [];
  const ends: WatchEnds = {
    etcd: (request) => stream.send(request),
    client: async (answer) => void answers.push(answer),
  };
  try {
    const session = await WatchSession.open(store, call, ends);
    try {
      await session.request({ requestUnion: { case: 'createRequest', value: create } } as WatchRequest);
      yield* passed(answers);
      for await (const reply of stream) {
        await session.reply(reply);
        yield* passed(answers);
      }
    } finally {
      session.close();
    }
  } finally {
    stream.close();
  }
}

/** Hands on what has come, up to a cancellation. */
function* passed(answers: MessageInitShape<typeof WatchResponseSchema>[]) {
  for (const answer of answers.splice(0)) {
    if (answer.canceled && (answer.compactRevision ?? 0n) !== 0n) throw etcdError('compacted');
    if (answer.canceled)
      throw new RpcError(status.permissionDenied, answer.cancelReason ?? 'etcdserver: watch canceled');
    yield answer;
  }
}
