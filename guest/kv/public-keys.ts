/**
 * Has the ledger show what network.json makes public, and nothing else. The policy is a key of etcd's, so that it is in the ledger as all writes
 * are, and counts from the next revision on: leaves of before stay as they were made.
 */
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { POLICY_KEY, policyValue } from '../../lib/ledger/policy.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import type { Upstream } from './types.ts';

/**
 * Writes only what changes. Before anything else is written: what is public no longer must not become so once more.
 * @param upstream that answers a write once the ledger has it
 * @returns whether it was changed
 */
export async function setPublic(upstream: Upstream, publicPrefixes: readonly Uint8Array[]): Promise<boolean> {
  const { kvs } = await upstream.unary(KV.method.range, { key: POLICY_KEY });
  const [present] = kvs;
  const value = policyValue({ publicPrefixes, leases: false });
  if (present === undefined ? publicPrefixes.length === 0 : bytesEqual(present.value, value)) return false;
  await upstream.unary(KV.method.put, { key: POLICY_KEY, value });
  return true;
}
