/**
 * What can be said about a request's evidence without an enclave, without collateral and without the network's policy: that
 * the quote is a TD's, is the one that the request's hash names, has the report data of this request, and is signed under a
 * trusted root. So only the platform that made a request can make another copy of it that passes. Time is left to the node:
 * a host's clock must not refuse anything.
 */

import {
  INTEL_ROOT,
  SIMULATED_ROOT,
  type TrustRoot,
  trustRootOf,
} from '../../lib/attestation/certificates/trust-roots.ts';
import { collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { createMemory, type VerifierMemory } from '../../lib/attestation/memory.ts';
import { platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import type { Quote } from '../../lib/attestation/quote/quote.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { requestStatement } from '../../lib/protocol/signed-messages.ts';
import { inspectCollateral } from '../collateral/inspect.ts';

/** What was checked before: copies of one request share most of their bytes. */
const memories: readonly VerifierMemory[] = [INTEL_ROOT, SIMULATED_ROOT].map((root) =>
  createMemory(root, 32),
);

/** Wide enough for every certificate and list there has ever been. Milliseconds. */
const ANY_TIME = 100 * 365 * 24 * 3600 * 1000;

/**
 * The request as it may be kept: without collateral by which nobody could judge its quote, because it is not signed under the
 * quote's root or is for another platform. Such collateral would mislead whoever has none better; whoever has does not need it.
 * @param flavour of this host's own node, which says which root its network trusts; either root while that is not known
 * @throws GOSSIP_QUOTE when the quote can't be this request's
 */
export function withCheckedEvidence(message: RequestMessage, flavour?: Flavour): RequestMessage {
  const { collateral, ...bare } = message;
  const { quote, trustRoot } = checkedQuote(message, flavour);
  if (collateral === undefined) return message;
  try {
    const kind = platformKindOf(quote);
    inspectCollateral(collateralOf(collateral), kind, Date.now(), { trustRoot, skewMs: ANY_TIME });
    return message;
  } catch {
    return bare;
  }
}

/** The quote, and the root that it is signed up to. */
function checkedQuote(
  message: RequestMessage,
  flavour: Flavour | undefined,
): { quote: Quote; trustRoot: TrustRoot } {
  const bytes = fromHex(message.quote);
  const wanted = flavour === undefined ? undefined : trustRootOf(flavour);
  const tried = memories.filter(({ trustRoot }) => wanted === undefined || trustRoot === wanted);
  let cause: unknown;
  for (const memory of tried) {
    try {
      const { trustRoot } = memory;
      const { quote } = verify(bytes, { ...expectationsOf(message), trustRoot, memory });
      return { quote, trustRoot };
    } catch (error) {
      cause = error;
    }
  }
  throw new DstackError(
    'GOSSIP_QUOTE',
    `the quote of the request cannot be used: ${codeOf(cause)}: ${(cause as Error).message}`,
    { cause },
  );
}

/** What needs neither collateral nor the contract nor the node's flavour. */
const expectationsOf = (message: RequestMessage) =>
  ({
    now: new Date(),
    skewMs: ANY_TIME,
    depth: 'signatures',
    quoteHash: fromHex(message.quoteHash, 32),
    measurement: 'any',
    rtmr3: 'any',
    reportData: requestStatement(message, message),
  }) as const;
