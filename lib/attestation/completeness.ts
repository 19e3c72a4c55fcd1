/** What this verifier does not check yet, in one place, so that it can not be forgotten. */

import type { Flavour } from '../protocol/network-config.ts';
import { AttestationError } from './errors.ts';

export interface MissingCheck {
  readonly name: string;
  /** What an attacker gains from its absence. */
  readonly consequence: string;
}

/**
 * What a production node still lacks. The verifier itself checks all that Intel's rules ask for, given collateral; but no
 * message of the onboarding carries collateral yet, so a production node has none to judge by. A production image refuses
 * to onboard while the list is not empty.
 */
export const MISSING_CHECKS: readonly MissingCheck[] = [
  {
    name: 'collateral',
    consequence:
      'onboarding messages carry none, so no hardware quote could be judged by its TCB and revocation',
  },
];

/**
 * Must be called before evidence decides anything in an image of this flavour. The simulated platform's collateral is
 * published with its root, so for sim and dev nothing is missing.
 * @throws AttestationError ATTESTATION_INCOMPLETE
 */
export function assertComplete(flavour: Flavour, missing: readonly MissingCheck[] = MISSING_CHECKS): void {
  if (flavour === 'production' && missing.length > 0) {
    throw new AttestationError(
      'ATTESTATION_INCOMPLETE',
      `a production node may not judge evidence yet: ${missing.map(({ name, consequence }) => `${name} (${consequence})`).join(', ')}`,
    );
  }
}
