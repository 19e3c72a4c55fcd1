/**
 * What of the store is readable in the ledger. The policy itself is a key of the store: it changes by a revision, and counts from the next one
 * on, so that every replica makes the same leaves. Its own key is always readable.
 */
import { Type } from 'typebox';
import { bytesEqual, fromHex, toHex, utf8 } from '../protocol/encoding.ts';
import { HexUpTo, parseJson, Strict } from '../protocol/schema.ts';
import type { LedgerEvent } from './record.ts';

export interface LeafPolicy {
  readonly publicPrefixes: readonly Uint8Array[];
  /** Whether the leases of events are readable too. */
  readonly leases: boolean;
}

export const NOTHING_PUBLIC: LeafPolicy = { publicPrefixes: [], leases: false };

/** Under kv's own prefix, which no client can name. */
export const POLICY_KEY: Uint8Array = utf8('k/ledger/policy');
export const POLICY_MAX_BYTES = 16_384;

const PolicySchema = Strict({
  publicPrefixes: Type.Array(HexUpTo(128), { maxItems: 64 }),
  leases: Type.Boolean(),
});

export function isPublic({ publicPrefixes }: LeafPolicy, key: Uint8Array): boolean {
  return (
    (publicPrefixes.length > 0 && publicPrefixes.some((prefix) => startsWith(key, prefix))) ||
    bytesEqual(key, POLICY_KEY)
  );
}

/** The policy for what follows these events. One that can't be read makes nothing public. */
export function policyAfter(policy: LeafPolicy, events: readonly LedgerEvent[]): LeafPolicy {
  const change = events.findLast(({ key }) => bytesEqual(key, POLICY_KEY));
  if (change === undefined) return policy;
  return change.type === 'put' ? readPolicy(change.value) : NOTHING_PUBLIC;
}

/** The value that sets it. */
export function policyValue({ publicPrefixes, leases }: LeafPolicy): Uint8Array {
  return utf8(JSON.stringify({ publicPrefixes: publicPrefixes.map(toHex), leases }));
}

export function readPolicy(value: Uint8Array): LeafPolicy {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(value);
    const { publicPrefixes, leases } = parseJson(
      PolicySchema,
      text,
      'LEDGER_POLICY',
      'the policy',
      POLICY_MAX_BYTES,
    );
    return { publicPrefixes: publicPrefixes.map((prefix) => fromHex(prefix)), leases };
  } catch {
    return NOTHING_PUBLIC;
  }
}

const startsWith = (key: Uint8Array, prefix: Uint8Array): boolean =>
  key.length >= prefix.length && bytesEqual(key.subarray(0, prefix.length), prefix);
