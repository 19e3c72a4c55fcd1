/**
 * What a watch is told, in parts: etcd splits what it tells at once into messages of a few megabytes, wherever that is. To a client that did not ask for that
 * a revision comes whole, and an answer is one of several that etcd might as well have given.
 */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import type { Event } from '../../../lib/etcd/gen/mvcc_pb.js';
import type { WatchResponse } from '../../../lib/etcd/gen/watch_pb.js';
import { MOST_READ } from './reads.ts';

export class WatchParts {
  /** Of the revision that may go on in the next message. */
  #held: Event[] = [];
  #bytes = 0;

  /**
   * The answer that can be given now, if there is one.
   *
   * @throws RpcError for a revision that is more than an answer may be
   */
  take(reply: WatchResponse): WatchResponse | undefined {
    const { events, fragment } = reply;
    if (!fragment && this.#held.length === 0) return reply;
    if (!fragment) {
      const whole = { ...reply, events: [...this.#held, ...events] };
      this.#hold([]);
      return whole;
    }
    const all = [...this.#held, ...events];
    const last = all.at(-1)?.kv?.modRevision;
    const from = all.findIndex(({ kv }) => kv?.modRevision === last);
    this.#hold(all.slice(Math.max(0, from)));
    return from > 0 ? { ...reply, events: all.slice(0, from), fragment: false } : undefined;
  }

  #hold(events: Event[]): void {
    this.#held = events;
    this.#bytes = events.reduce((sum, event) => sum + sizeOf(event), 0);
    if (this.#bytes > MOST_READ)
      throw new RpcError(
        status.resourceExhausted,
        'a revision of more than 64 MiB is too large for one answer: watch with fragments, or without prev_kv',
      );
  }
}

function sizeOf({ kv, prevKv }: Event): number {
  return [kv, prevKv].reduce(
    (sum, one) => sum + (one === undefined ? 0 : one.key.length + one.value.length),
    0,
  );
}
