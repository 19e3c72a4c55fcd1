/**
 * Requests and answers of a watch stream. Ids, order, progress and fragments are etcd's own: a client's stream is one of etcd's.
 * An answer that etcd would not give, a refusal, takes no id.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Event, EventSchema } from '../../../lib/etcd/gen/mvcc_pb.js';
import {
  type WatchCreateRequest,
  WatchCreateRequest_FilterType,
  type WatchCreateRequestSchema,
  type WatchResponse,
  type WatchResponseSchema,
} from '../../../lib/etcd/gen/watch_pb.js';
import { type KeyRange, ZERO } from './keyspace.ts';
import { headerOf, keyValueOf, type View } from './replies.ts';
import { COMPACTED } from './requests.ts';

/** What etcd's answers have for an id when there is no watch. */
export const NO_WATCH = -1n;

/** What is watched, by the client's names: without a key, from the smallest on. */
export function watchedRange({ key, rangeEnd }: WatchCreateRequest): KeyRange {
  return { key: key.length === 0 ? ZERO : key, rangeEnd };
}

/** A start below the floor becomes one that etcd itself cancels as compacted, after it has given the watch its id. */
export function watchUpstream(
  { space, floor }: View & { readonly floor: bigint },
  request: WatchCreateRequest,
): MessageInitShape<typeof WatchCreateRequestSchema> {
  const gone = request.startRevision !== 0n && request.startRevision < floor;
  return {
    ...space.range(watchedRange(request)),
    startRevision: gone ? COMPACTED : request.startRevision,
    progressNotify: request.progressNotify,
    filters: request.filters.filter((filter) => WatchCreateRequest_FilterType[filter] !== undefined),
    prevKv: request.prevKv,
    watchId: request.watchId,
    // Else etcd would put a thousand revisions into one message, whatever they come to (watch-parts.ts).
    fragment: true,
  };
}

/** @throws KV_FOREIGN_KEY */
export function watchReply(
  view: View & { readonly floor: bigint },
  reply: WatchResponse,
): MessageInitShape<typeof WatchResponseSchema> {
  return {
    ...headerOf(reply),
    watchId: reply.watchId,
    created: reply.created,
    canceled: reply.canceled,
    compactRevision: compactRevisionOf(view.floor, reply),
    cancelReason: reply.cancelReason,
    fragment: reply.fragment,
    events: reply.events.map((event) => eventOf(view, event)),
  };
}

/** Where a watch can start at the earliest, if it was cancelled for having started before. */
function compactRevisionOf(floor: bigint, { compactRevision }: WatchResponse): bigint {
  if (compactRevision === 0n) return compactRevision;
  return compactRevision < floor ? floor : compactRevision;
}

function eventOf(
  view: View & { readonly floor: bigint },
  event: Event,
): MessageInitShape<typeof EventSchema> {
  // What is read at the revision before the event may be below the floor.
  const before = event.kv !== undefined && event.kv.modRevision - 1n >= view.floor ? event.prevKv : undefined;
  return {
    type: event.type,
    ...(event.kv && { kv: keyValueOf(view, event.kv) }),
    ...(before && { prevKv: keyValueOf(view, before) }),
  };
}

/** The answer to a watch that is refused. */
export function refusedWatch(
  reply: { readonly header?: WatchResponse['header'] },
  reason: string,
): MessageInitShape<typeof WatchResponseSchema> {
  return { ...headerOf(reply), watchId: NO_WATCH, created: true, canceled: true, cancelReason: reason };
}
