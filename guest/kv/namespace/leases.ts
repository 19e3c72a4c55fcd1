/**
 * Which leases a namespace has. Etcd lists all leases there are, and renews or revokes one for whoever names it, so each lease has a key
 * of the store's, attached to it: it is there as long as the lease is, and is read where a namespace's leases are counted or named.
 */
import { randomBytes } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import { Compare_CompareTarget, KV } from '../../../lib/etcd/gen/kv_pb.js';
import {
  Lease,
  type LeaseGrantRequest,
  type LeaseGrantResponseSchema,
  type LeaseLeasesResponseSchema,
  type LeaseRevokeRequest,
  type LeaseRevokeResponseSchema,
  type LeaseTimeToLiveRequest,
  type LeaseTimeToLiveResponse,
  type LeaseTimeToLiveResponseSchema,
} from '../../../lib/etcd/gen/lease_pb.js';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Upstream, UpstreamOptions } from '../types.ts';
import { Keyspace, prefixEnd } from './keyspace.ts';
import { LeaseIds, NEVER } from './lease-ids.ts';
import { LEASE_KEY, LEASES, leaseKey, leasesOf } from './own-keys.ts';
import { headerOf } from './replies.ts';

/** Leases of one namespace. Etcd holds each in memory. */
const MOST = 100_000;
/** Whose owner is remembered, of all namespaces. What is forgotten is asked of etcd. */
const REMEMBERED = 100_000;

export class Leases {
  readonly #upstream: Upstream;
  readonly #key: Uint8Array;
  readonly #most: number;
  readonly #ids = new Map<string, LeaseIds>();
  /** Etcd's ids of leases that were granted by way of the namespace that their cipher is of. They are so for ever. */
  readonly #owned = new Set<bigint>();

  private constructor(upstream: Upstream, key: Uint8Array, most: number) {
    this.#upstream = upstream;
    this.#key = key;
    this.#most = most;
  }

  /**
   * Reads the ciphers' key, or makes it, and revokes what was granted without being told to anyone: a crash came between.
   *
   * @throws KV_LEASE_KEY, RpcError
   */
  static async open(upstream: Upstream, { most = MOST } = {}): Promise<Leases> {
    const leases = new Leases(upstream, await leaseSecret(upstream), most);
    await leases.#revokeUntold();
    return leases;
  }

  ids(space: Keyspace): LeaseIds {
    let ids = this.#ids.get(space.id);
    if (ids === undefined) {
      ids = new LeaseIds(this.#key, space.prefix);
      this.#ids.set(space.id, ids);
    }
    return ids;
  }

  /** Whether the namespace has, or had, a lease of this id. */
  async has(space: Keyspace, client: bigint, options?: UpstreamOptions): Promise<boolean> {
    if (client <= 0n) return false;
    const id = this.ids(space).upstream(client);
    if (this.#owned.has(id)) return true;
    const { count } = await this.#upstream.unary(
      KV.method.range,
      { key: leaseKey(space, client), countOnly: true },
      options,
    );
    if (count === 0n) return false;
    this.#remember(id);
    return true;
  }

  /** @throws RpcError as etcd, and "too many requests" for more leases than a namespace may have */
  async grant(
    space: Keyspace,
    { ID, TTL }: LeaseGrantRequest,
    options?: UpstreamOptions,
  ): Promise<MessageInitShape<typeof LeaseGrantResponseSchema>> {
    if (ID < 0n) throw new RpcError(status.invalidArgument, 'etcdserver: the id of a lease is positive');
    const client = ID === 0n ? randomId() : ID;
    const id = this.ids(space).upstream(client);
    const granted = await this.#upstream.unary(Lease.method.leaseGrant, { ID: id, TTL }, options);
    const header = await this.#own(space, client, options).catch(async (error: unknown) => {
      // Nobody was told of it, so nobody else will.
      await this.#upstream.unary(Lease.method.leaseRevoke, { ID: id }).catch(() => {});
      throw error;
    });
    this.#remember(id);
    return { ...header, ID: client, TTL: granted.TTL };
  }

  /** Puts the lease's own key. It goes when the lease goes. */
  async #own(space: Keyspace, client: bigint, options?: UpstreamOptions) {
    const lease = this.ids(space).upstream(client);
    const all = leasesOf(space);
    const reply = await this.#upstream.unary(
      KV.method.txn,
      {
        success: [
          { request: { case: 'requestPut', value: { key: leaseKey(space, client), lease } } },
          {
            request: { case: 'requestRange', value: { key: all, rangeEnd: prefixEnd(all), countOnly: true } },
          },
        ],
      },
      options,
    );
    const counted = reply.responses[1]?.response;
    if (counted?.case !== 'responseRange' || counted.value.count > BigInt(this.#most))
      throw etcdError('tooManyRequests');
    return headerOf(reply);
  }

  /** @throws RpcError "requested lease not found" */
  async revoke(
    space: Keyspace,
    { ID }: LeaseRevokeRequest,
    options?: UpstreamOptions,
  ): Promise<MessageInitShape<typeof LeaseRevokeResponseSchema>> {
    if (!(await this.has(space, ID, options))) throw etcdError('leaseNotFound');
    const id = this.ids(space).upstream(ID);
    return headerOf(await this.#upstream.unary(Lease.method.leaseRevoke, { ID: id }, options));
  }

  /** A lease that is not the namespace's has no time to live, as one that never was. */
  async timeToLive(
    space: Keyspace,
    { ID, keys }: LeaseTimeToLiveRequest,
    options?: UpstreamOptions,
  ): Promise<MessageInitShape<typeof LeaseTimeToLiveResponseSchema>> {
    const reply = await this.#timeToLive(space, ID, keys, options);
    return {
      ...headerOf(reply),
      ID,
      TTL: reply.TTL,
      grantedTTL: reply.grantedTTL,
      keys: reply.keys.filter((key) => space.has(key)).map((key) => space.strip(key)),
    };
  }

  /** What is attached to a lease, by the client's names. */
  async attached(space: Keyspace, ID: bigint, options?: UpstreamOptions): Promise<Uint8Array[]> {
    const { keys } = await this.#timeToLive(space, ID, true, options);
    return keys.filter((key) => space.has(key)).map((key) => space.strip(key));
  }

  async #timeToLive(
    space: Keyspace,
    client: bigint,
    keys: boolean,
    options?: UpstreamOptions,
  ): Promise<LeaseTimeToLiveResponse> {
    const ID = await this.known(space, client, options);
    return this.#upstream.unary(Lease.method.leaseTimeToLive, { ID, keys }, options);
  }

  /** Etcd's id of a lease of the namespace's, or one that never is. */
  async known(space: Keyspace, client: bigint, options?: UpstreamOptions): Promise<bigint> {
    return (await this.has(space, client, options)) ? this.ids(space).upstream(client) : NEVER;
  }

  /** Those of the namespace. */
  async list(
    space: Keyspace,
    options?: UpstreamOptions,
  ): Promise<MessageInitShape<typeof LeaseLeasesResponseSchema>> {
    const key = leasesOf(space);
    const reply = await this.#upstream.unary(
      KV.method.range,
      { key, rangeEnd: prefixEnd(key), keysOnly: true },
      options,
    );
    return {
      ...headerOf(reply),
      leases: reply.kvs.map((kv) => ({ ID: idOf(kv.key.subarray(key.length)) })),
    };
  }

  #remember(id: bigint): void {
    if (this.#owned.size >= REMEMBERED) this.#owned.clear();
    this.#owned.add(id);
  }

  async #revokeUntold(): Promise<void> {
    const { leases } = await this.#upstream.unary(Lease.method.leaseLeases, {});
    const { kvs } = await this.#upstream.unary(KV.method.range, {
      key: LEASES,
      rangeEnd: prefixEnd(LEASES),
      keysOnly: true,
    });
    const told = new Set(kvs.map(({ key }) => this.#idOfKey(key)));
    for (const { ID } of leases) {
      if (told.has(ID)) continue;
      await this.#upstream.unary(Lease.method.leaseRevoke, { ID }).catch((error: unknown) => {
        // It may have expired meanwhile.
        if (!(error instanceof RpcError && error.status === status.notFound)) throw error;
      });
    }
  }

  #idOfKey(key: Uint8Array): bigint {
    const at = key.lastIndexOf(SLASH) + 1;
    const space = new Keyspace(key.subarray(LEASES.length, at));
    return this.ids(space).upstream(idOf(key.subarray(at)));
  }
}

const SLASH = '/'.charCodeAt(0);

function idOf(digits: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(digits).toString('latin1')}`);
}

/** As etcd chooses them: positive. */
function randomId(): bigint {
  return (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
}

/** Made once in the life of the store, by whichever node is first. A store that is full still opens. */
async function leaseSecret(upstream: Upstream): Promise<Uint8Array> {
  const read = async () => (await upstream.unary(KV.method.range, { key: LEASE_KEY })).kvs[0]?.value;
  const value = (await read()) ?? (await makeLeaseSecret(upstream).then(read));
  if (value?.length !== 32)
    throw new DstackError(
      'KV_LEASE_KEY',
      'the key of lease ids in etcd is not 32 bytes long: the store was damaged',
    );
  return value;
}

async function makeLeaseSecret(upstream: Upstream): Promise<void> {
  const value = { key: LEASE_KEY, value: randomBytes(32) };
  const none = { case: 'createRevision', value: 0n } as const;
  await upstream.unary(KV.method.txn, {
    compare: [{ key: LEASE_KEY, target: Compare_CompareTarget.CREATE, targetUnion: none }],
    success: [{ request: { case: 'requestPut', value } }],
  });
}
