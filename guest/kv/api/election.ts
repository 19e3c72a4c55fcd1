/** etcd's Election service: of those who campaign for a name the first is its leader, until it resigns or its lease ends. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import {
  type CampaignRequest,
  Election,
  type LeaderKey,
  type LeaderRequest,
  type LeaderResponseSchema,
  type ProclaimRequest,
} from '../../../lib/etcd/gen/election_pb.js';
import { Event_EventType } from '../../../lib/etcd/gen/mvcc_pb.js';
import { WatchCreateRequestSchema } from '../../../lib/etcd/gen/watch_pb.js';
import { bytesEqual } from '../../../lib/protocol/encoding.ts';
import type { Store } from '../namespace/store.ts';
import { watching } from '../namespace/watch-session.ts';
import type { Call, ServedMethod } from '../types.ts';
import { streaming, unary } from './method.ts';
import {
  enqueue,
  first,
  firstOf,
  leaseFor,
  madeAt,
  prefixOf,
  put,
  remove,
  tidying,
  txn,
  waiterKey,
  waitForTurn,
} from './queue.ts';

type LeaderReply = MessageInitShape<typeof LeaderResponseSchema>;

export function electionMethods(store: Store): ServedMethod[] {
  const { method } = Election;
  return [
    unary(method.campaign, (request, call) => campaign(store, request, call)),
    unary(method.proclaim, (request, call) => proclaim(store, request, call)),
    unary(method.leader, (request, call) => leader(store, request, call)),
    unary(method.resign, async (request, call) => ({
      header: await resign(store, wanted(request.leader), call),
    })),
    streaming(method.observe, async (requests, send, call) => {
      for await (const request of requests) return observe(store, request, send, call);
    }),
  ];
}

async function campaign(store: Store, { name, lease: given, value }: CampaignRequest, call: Call) {
  const lease = await leaseFor(store, call, given);
  const key = waiterKey(name, lease);
  const place = await enqueue(store, call, { key, value, lease });
  const own = { name, key, rev: place.revision, lease };
  try {
    if (!bytesEqual(place.value, value)) await announce(store, own, value, call);
    await waitForTurn(store, call, prefixOf(name), place.revision);
  } catch (error) {
    // Nobody may wait behind one who has gone.
    await resign(store, own, tidying(call)).catch(() => {});
    throw error;
  }
  return { header: place.header, leader: own };
}

type Leader = Pick<LeaderKey, 'name' | 'key' | 'rev' | 'lease'>;

async function proclaim(store: Store, { leader, value }: ProclaimRequest, call: Call) {
  const own = wanted(leader);
  await leaseFor(store, call, own.lease);
  return { header: await announce(store, own, value, call) };
}

async function announce(store: Store, { key, rev, lease }: Leader, value: Uint8Array, call: Call) {
  const reply = await txn(store, call, { compare: [madeAt(key, rev)], success: [put(key, value, lease)] });
  if (!reply.succeeded) throw new RpcError(status.unknown, 'election: not leader');
  return reply.header;
}

/** Gives up a place. One that is gone is given up. */
async function resign(store: Store, { key, rev }: Leader, call: Call) {
  return (await txn(store, call, { compare: [madeAt(key, rev)], success: [remove(key)] })).header;
}

function wanted(leader: LeaderKey | undefined): LeaderKey {
  if (leader === undefined) throw new RpcError(status.unknown, '"leader" field must be provided');
  return leader;
}

async function leader(store: Store, { name }: LeaderRequest, call: Call): Promise<LeaderReply> {
  const { header, kvs } = await first(store, call, prefixOf(name));
  const [kv] = kvs ?? [];
  if (kv === undefined) throw new RpcError(status.unknown, 'election: no leader');
  return { header, kv };
}

/** Tells of the leader there is, of each of its proclamations, and of the next one when it has gone. Goes on until the client ends it. */
async function observe(
  store: Store,
  { name }: LeaderRequest,
  send: (reply: LeaderReply) => Promise<void>,
  call: Call,
): Promise<void> {
  const prefix = prefixOf(name);
  while (!call.signal.aborted) {
    const { header, kvs } = await first(store, call, prefix);
    const found =
      kvs?.[0] === undefined ? await nextLeader(store, prefix, header, call) : { header, kv: kvs[0] };
    await send(found);
    await follow(store, found, send, call);
  }
}

/** The first to campaign from this revision on. */
async function nextLeader(
  store: Store,
  prefix: Uint8Array,
  header: LeaderReply['header'],
  call: Call,
): Promise<LeaderReply> {
  const { key, rangeEnd } = firstOf(prefix);
  const request = create(WatchCreateRequestSchema, { key, rangeEnd, startRevision: header?.revision ?? 0n });
  for await (const answer of watching(store, call, request)) {
    const made = answer.events?.find(({ type }) => type !== Event_EventType.DELETE)?.kv;
    // One answer may have several revisions: the header is that of the event.
    if (made !== undefined)
      return { header: { ...answer.header, revision: made.modRevision ?? 0n }, kv: made };
  }
  throw new RpcError(status.unavailable, 'election: no leader');
}

/** Tells of what a leader proclaims, until its key is deleted. */
async function follow(
  store: Store,
  { header, kv }: LeaderReply,
  send: (reply: LeaderReply) => Promise<void>,
  call: Call,
): Promise<void> {
  const key = kv?.key ?? new Uint8Array();
  const request = create(WatchCreateRequestSchema, { key, startRevision: (header?.revision ?? 0n) + 1n });
  for await (const answer of watching(store, call, request)) {
    for (const { type, kv: proclaimed } of answer.events ?? []) {
      if (type === Event_EventType.DELETE) return;
      await send({ header: answer.header, kv: proclaimed });
    }
  }
}
