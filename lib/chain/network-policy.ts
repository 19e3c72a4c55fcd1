/**
 * What the contract says about evidence, read at one block: its TCB policy, and what it allows. An onboarder and the owner's
 * bootstrap check both use these functions, so they enforce the same thing.
 */
import type { Policy } from '../attestation/policy.ts';
import type { RelyingParty } from '../attestation/verify.ts';
import { toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import type { Head } from './chain-client.ts';
import type { NetworkReader } from './network-reader.ts';

/**
 * The network's policy for a platform of this kind. It holds what the contract decides: statuses, grace period, evaluation
 * number, denied FMSPC. Everything else is as strict as it can be: no owner can let a debug TD in.
 */
async function readNetworkPolicy(
  reader: Pick<NetworkReader, 'tcbPolicy' | 'fmspcDenied'>,
  fmspc: Uint8Array,
  head: Head,
): Promise<Policy> {
  const [policy, denied] = await Promise.all([reader.tcbPolicy(head), reader.fmspcDenied(fmspc, head)]);
  return { ...policy, ...(denied && { deniedFmspcs: [toHex(fmspc)] }) };
}

/**
 * The contract as the relying party of a request or a bootstrap, read at one block.
 * @param config that the evidence must come with, 32 bytes
 */
export function contractAsRelyingParty(
  reader: Pick<NetworkReader, 'tcbPolicy' | 'fmspcDenied' | 'isAllowed'>,
  config: Uint8Array,
  head: Head,
): RelyingParty {
  return {
    policy: (fmspc) => readNetworkPolicy(reader, fmspc, head),
    requireAllowed: (evidence) => requireAllowed(reader, { ...evidence, config }, head),
  };
}

/** @throws DstackError MEASUREMENT_NOT_ALLOWED, CONFIG_NOT_ALLOWED, PLATFORM_NOT_ALLOWED */
async function requireAllowed(
  reader: Pick<NetworkReader, 'isAllowed'>,
  of: { measurement: Uint8Array; config: Uint8Array; platform: Uint8Array },
  head: Head,
): Promise<void> {
  const allowed = await reader.isAllowed(of, head);
  const refuse = (code: string, what: 'measurement' | 'config' | 'platform') => {
    const value = toHex(of[what]);
    throw new DstackError(
      code,
      `the contract does not allow ${what} ${value}; its owner can: npx dstack network allow ${what} ${value}`,
    );
  };
  if (!allowed.measurementAllowed) refuse('MEASUREMENT_NOT_ALLOWED', 'measurement');
  if (!allowed.configAllowed) refuse('CONFIG_NOT_ALLOWED', 'config');
  if (!allowed.platformAllowed) refuse('PLATFORM_NOT_ALLOWED', 'platform');
}
