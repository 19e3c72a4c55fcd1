/**
 * What the contract says about evidence, read at one block: its TCB policy, and what it allows. An onboarder and the
 * owner's bootstrap check enforce one and the same thing by these.
 */
import type { Finding } from '../attestation/intel-rules.ts';
import { applyPolicy, type Policy } from '../attestation/policy.ts';
import { Trace } from '../attestation/trace.ts';
import { toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import type { Head } from './chain-client.ts';
import type { NetworkReader } from './network-reader.ts';

/**
 * The network's policy for a platform of this kind. It names what the contract decides: statuses, grace period, evaluation
 * number, denied FMSPC. All else is the strictest there is: no owner can let a debug TD in.
 */
export async function readNetworkPolicy(
  reader: Pick<NetworkReader, 'tcbPolicy' | 'fmspcDenied'>,
  fmspc: Uint8Array,
  head: Head,
): Promise<Policy> {
  const [policy, denied] = await Promise.all([reader.tcbPolicy(head), reader.fmspcDenied(fmspc, head)]);
  return { ...policy, ...(denied && { deniedFmspcs: [toHex(fmspc)] }) };
}

/** @throws AttestationError with the code of the first rule of the network's policy that the finding breaks */
export async function applyNetworkPolicy(
  reader: Pick<NetworkReader, 'tcbPolicy' | 'fmspcDenied'>,
  finding: Finding,
  now: Date,
  head: Head,
  trace: Trace = new Trace(),
): Promise<void> {
  applyPolicy(finding, await readNetworkPolicy(reader, finding.sgx.fmspc, head), now, trace);
}

/** @throws DstackError MEASUREMENT_NOT_ALLOWED, CONFIG_NOT_ALLOWED, PLATFORM_NOT_ALLOWED */
export async function requireAllowed(
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
