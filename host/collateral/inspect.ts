/** Which kind of platform collateral is for, and until when, once all signatures in it have been checked. */

import {
  INTEL_ROOT,
  SIMULATED_ROOT,
  type TrustRoot,
} from '../../lib/attestation/certificates/trust-roots.ts';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { AttestationError } from '../../lib/attestation/errors.ts';
import { verifyCollateral } from '../../lib/attestation/intel-rules.ts';
import { createMemory, type VerifierMemory } from '../../lib/attestation/memory.ts';
import { authorityOf, type PlatformKind } from '../../lib/attestation/quote/platform-kind.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { kindName } from './source.ts';

export interface Inspection {
  readonly kind: PlatformKind;
  /** Unix milliseconds: when the first of its parts is to be renewed. */
  readonly nextUpdate: number;
  readonly tcbEvaluationDataNumber: number;
}

/** What was checked before: a host looks at the same few again and again. */
const memories: readonly VerifierMemory[] = [INTEL_ROOT, SIMULATED_ROOT].map((root) =>
  createMemory(root, 32),
);

/**
 * @param at Unix milliseconds
 * @param options.trustRoot the root that its chains must end at; by default the root that it names itself
 * @param options.skewMs how far `at` may be off, milliseconds; 0 by default
 * @throws AttestationError with the code with which a verifier would refuse it at that time; COLLATERAL_FORMAT when it is
 *   for another kind of platform than `expected`
 */
export function inspectCollateral(
  collateral: Collateral,
  expected: PlatformKind | undefined,
  at: number,
  options: { trustRoot?: TrustRoot; skewMs?: number } = {},
): Inspection {
  const memory = memories.find(({ trustRoot }) => trustRoot === options.trustRoot) ?? memoryOf(collateral);
  const { tcbInfo, qeIdentity, rootCrl, pckCrl, crlIssuer } = verifyCollateral({
    trustRoot: memory.trustRoot,
    memory,
    collateral,
    now: new Date(at),
    ...(options.skewMs !== undefined && { skewMs: options.skewMs }),
  });
  const kind: PlatformKind = {
    tee: tcbInfo.id === 'TDX' ? 'tdx' : 'sgx',
    fmspc: toHex(tcbInfo.fmspc),
    ca: authorityOf(crlIssuer),
  };
  if (expected !== undefined && kindName(kind) !== kindName(expected)) {
    throw new AttestationError(
      'COLLATERAL_FORMAT',
      `the collateral is of ${kindName(kind)}, not of ${kindName(expected)}`,
    );
  }
  const parts = [tcbInfo, qeIdentity, rootCrl, pckCrl];
  return {
    kind,
    nextUpdate: Math.min(...parts.map(({ nextUpdate }) => nextUpdate)),
    tcbEvaluationDataNumber: tcbInfo.tcbEvaluationDataNumber,
  };
}

/** The root that its chains end at; Intel's when there is none to be found, and then the check against it fails. */
function memoryOf(collateral: Collateral): VerifierMemory {
  const endsAt = ({ pem }: TrustRoot) => collateral.tcb_info_issuer_chain.endsWith(pem);
  return memories.find(({ trustRoot }) => endsAt(trustRoot)) ?? memories[0]!;
}
