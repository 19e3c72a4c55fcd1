/**
 * Follows etcd: every event of every key, revision by revision, over a watch that is taken up again whenever it is lost.
 *
 * etcd may answer with a thousand revisions at once, so large answers come in fragments, which may end within a revision: a revision is
 * handed on once the next one has begun or the answer is complete.
 */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { type Event, Event_EventType } from '../../../lib/etcd/gen/mvcc_pb.js';
import { Watch, type WatchResponse } from '../../../lib/etcd/gen/watch_pb.js';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { LedgerEvent, RevisionSource, Upstream } from '../types.ts';

const ALL = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
/** A key that is never written. */
const NOBODYS = Uint8Array.of(0);
const AGAIN_AFTER_MS = 50;

type Each = (revision: bigint, events: readonly LedgerEvent[]) => void;

export class EtcdRevisions implements RevisionSource {
  readonly #upstream: Upstream;
  #compacted: bigint;

  private constructor(upstream: Upstream, compacted: bigint) {
    this.#upstream = upstream;
    this.#compacted = compacted;
  }

  /** @throws RpcError when etcd is away */
  static async open(upstream: Upstream): Promise<EtcdRevisions> {
    return new EtcdRevisions(upstream, await compactedAt(upstream));
  }

  compactRevision(): bigint {
    return this.#compacted;
  }

  async follow(after: bigint, each: Each, signal: AbortSignal): Promise<never> {
    let last = after;
    const next: Each = (revision, events) => {
      each(revision, events);
      last = revision;
    };
    for (;;) {
      try {
        await this.#watch(last + 1n, next, signal);
      } catch (error) {
        signal.throwIfAborted();
        // It ended with the connection, or etcd is not there yet.
        if (!(error instanceof RpcError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER_MS));
      signal.throwIfAborted();
    }
  }

  async #watch(from: bigint, each: Each, signal: AbortSignal): Promise<void> {
    const stream = this.#upstream.stream(Watch.method.watch, { signal });
    try {
      stream.send({
        requestUnion: { case: 'createRequest', value: { ...ALL, startRevision: from, fragment: true } },
      });
      const revisions = new Revisions(each);
      for await (const answer of stream) {
        this.#refuse(answer, from);
        revisions.take(answer);
      }
    } finally {
      stream.close();
    }
  }

  #refuse({ canceled, compactRevision, cancelReason }: WatchResponse, from: bigint): void {
    if (compactRevision !== 0n) {
      this.#compacted = compactRevision;
      throw new DstackError(
        'REVISIONS_COMPACTED',
        `revision ${from} is wanted, and etcd has none before ${compactRevision}`,
      );
    }
    if (canceled) throw new RpcError(status.unavailable, `etcd ended the watch: ${cancelReason}`);
  }
}

/** Puts events together to revisions. */
class Revisions {
  readonly #each: Each;
  #revision = 0n;
  #events: LedgerEvent[] = [];

  constructor(each: Each) {
    this.#each = each;
  }

  take({ events, fragment }: WatchResponse): void {
    for (const event of events) {
      const revision = event.kv?.modRevision ?? 0n;
      if (revision !== this.#revision) this.#hand();
      this.#revision = revision;
      this.#events.push(eventOf(event));
    }
    if (!fragment) this.#hand();
  }

  #hand(): void {
    if (this.#events.length === 0) return;
    const events = this.#events;
    this.#events = [];
    this.#each(this.#revision, events);
  }
}

function eventOf({ type, kv }: Event): LedgerEvent {
  if (kv === undefined) throw new DstackError('ETCD_EVENT', 'etcd tells of an event without its key');
  const { key, value, lease, version, createRevision } = kv;
  return {
    type: type === Event_EventType.DELETE ? 'delete' : 'put',
    key,
    value,
    lease,
    version,
    createRevision,
  };
}

/** The newest compaction, which etcd tells a watch that begins before it; 0 for none. */
async function compactedAt(upstream: Upstream): Promise<bigint> {
  try {
    await upstream.unary(KV.method.range, { key: NOBODYS, revision: 1n });
    return 0n;
  } catch (error) {
    if (!(error instanceof RpcError && error.status === status.outOfRange)) throw error;
  }
  const stream = upstream.stream(Watch.method.watch);
  try {
    stream.send({ requestUnion: { case: 'createRequest', value: { key: NOBODYS, startRevision: 1n } } });
    for await (const { compactRevision } of stream) if (compactRevision !== 0n) return compactRevision;
  } finally {
    stream.close();
  }
  throw new RpcError(status.unavailable, 'etcd did not say where it is compacted');
}
