/**
 * The store's own keys in etcd, below `k/`, which no namespace reaches. They are in the ledger as all others are.
 */
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { joined, type Keyspace } from './keyspace.ts';

/** The key of the ciphers that permute lease ids. */
export const LEASE_KEY = utf8('k/lease-key');
/** `<prefix><id>`: the leases of each namespace, by the client's ids, each attached to its own lease. */
export const LEASES = utf8('k/lease/');
/** `<prefix>`: below what each namespace has compacted. */
export const FLOORS = utf8('k/floor/');
/** `<prefix>state`: users, roles and whether they count. */
const AUTH = utf8('k/auth/');

export function leasesOf({ prefix }: Keyspace): Uint8Array {
  return joined(LEASES, prefix);
}

/** Sixteen digits, so that their order is that of the ids. */
export function leaseKey(space: Keyspace, id: bigint): Uint8Array {
  return joined(leasesOf(space), utf8(id.toString(16).padStart(16, '0')));
}

export function floorKey({ prefix }: Keyspace): Uint8Array {
  return joined(FLOORS, prefix);
}

export function authKey({ prefix }: Keyspace): Uint8Array {
  return joined(AUTH, prefix, utf8('state'));
}
