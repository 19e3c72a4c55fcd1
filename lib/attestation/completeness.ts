/** What this verifier does not check yet, in one place, so that it can not be forgotten. */

import type { Flavour } from '../protocol/network-config.ts';
import { AttestationError } from './errors.ts';

export interface MissingCheck {
  readonly name: string;
  /** What an attacker gains from its absence. */
  readonly consequence: string;
}

/** Checks of a hardware quote that do not exist. A production image refuses to onboard while the list is not empty. */
export const MISSING_CHECKS: readonly MissingCheck[] = [
  { name: 'crl', consequence: 'a PCK or intermediate certificate that Intel revoked is accepted' },
  { name: 'qe-identity', consequence: "a quoting enclave other than Intel's current one is accepted" },
  { name: 'tcb-info', consequence: 'a platform whose microcode or TDX module has known holes is accepted' },
];

/**
 * Must be called before evidence decides anything in an image of this flavour. The simulated platform has no collateral,
 * so for sim and dev nothing is missing.
 * @throws AttestationError ATTESTATION_INCOMPLETE
 */
export function assertComplete(flavour: Flavour, missing: readonly MissingCheck[] = MISSING_CHECKS): void {
  if (flavour === 'production' && missing.length > 0) {
    throw new AttestationError(
      'ATTESTATION_INCOMPLETE',
      `a production node may not judge evidence until these checks exist: ${missing.map(({ name }) => name).join(', ')}`,
    );
  }
}
