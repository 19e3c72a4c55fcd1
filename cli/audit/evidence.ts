/**
 * One node's evidence, judged again as its onboarder (or the owner, for the first node) had to judge it: the same
 * verifier, at the block's time, with the collateral that was kept with it.
 */

import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import type { VerifierMemory } from '../../lib/attestation/memory.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import type { Step } from '../../lib/attestation/trace.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type {
  AnswerMessage,
  BootstrapPackage,
  RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import {
  bootstrapStatement,
  requestStatement,
  requireSigner,
  signedDigest,
  signerOf,
} from '../../lib/protocol/signed-messages.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { TcbPolicy } from './tcb-replay.ts';

/** What the public files prove of one node. */
export type Proof =
  | {
      readonly is: 'verified';
      /** None for a verdict of an earlier audit, which had them. */
      readonly steps: readonly Step[];
      /** The hash of the checkpoint that has the verdict. */
      readonly checkpoint?: string;
    }
  | { readonly is: 'missing'; readonly code: string; readonly message: string }
  | { readonly is: 'refused'; readonly code: string; readonly message: string };

export interface Circumstances {
  readonly network: Domain;
  /** Decides the trust root and the RTMR3 events: the auditor gives it, no record does. */
  readonly flavour: Flavour;
  /** When it was judged, Unix seconds. */
  readonly time: number;
  /** The contract's TCB policy at that time. */
  readonly policy: TcbPolicy;
  /** One for all that is judged: certificates and documents are the same for many nodes. */
  readonly memory: VerifierMemory;
}

/** What the chain says of the node; hex without 0x, addresses with. */
export interface Claimed {
  readonly measurement: string;
  readonly platform: string;
}

export interface BootstrapClaim extends Claimed {
  readonly networkKey: Address;
  readonly config: string;
  readonly quoteHash: string;
  readonly epoch: number;
  readonly blockHash: string;
}

/** Of a node of which no record says anything. */
export const missing = (code: string, what: string): Proof => ({
  is: 'missing',
  code,
  message: `no archive has the ${what}: give more with --archive`,
});

/** Whether a bootstrap package, which has the claimed quote hash, proves its claim. */
export function proveBootstrap(
  message: BootstrapPackage,
  claim: BootstrapClaim,
  circumstances: Circumstances,
): Proof {
  return proofBy(() => {
    requireSame('network key', addressKey(message.networkKey), addressKey(claim.networkKey));
    requireSame('config', message.config, claim.config);
    requireSame('block hash', message.blockHash, claim.blockHash);
    requireSame('epoch', message.epoch, claim.epoch);
    const { network } = circumstances;
    const steps = judge(message, bootstrapStatement(network, message), claim, circumstances);
    requireSigner(network, message, message.networkKey, 'RECORD_SIGNATURE');
    return steps;
  });
}

/** Whether a request, which its hash binds to the chain's, proves its claim. */
export function proveRequest(message: RequestMessage, claim: Claimed, circumstances: Circumstances): Proof {
  return proofBy(() => {
    const { network } = circumstances;
    const steps = judge(message, requestStatement(network, message), claim, circumstances);
    requireSigner(network, message, message.node, 'RECORD_SIGNATURE');
    return steps;
  });
}

/**
 * Whether an answer is the one that the contract recorded, signed by the network key.
 * @param recorded the contract's answer hash: the top 248 bits, hex
 */
export function proveAnswer(
  message: AnswerMessage,
  recorded: string,
  networkKey: Address,
  network: Domain,
): Proof {
  return proofBy(() => {
    requireSame('top 248 bits of the answer hash', message.answerHash.slice(0, 62), recorded.slice(0, 62));
    requireSigner(network, message, networkKey, 'RECORD_SIGNATURE');
    return [];
  });
}

/**
 * Whether one of the network's keys signed an answer. Anyone can write a record, so one that none of them signed means nothing.
 * @param networkKeys of all epochs, lower case
 */
export function isSignedByOneOf(
  networkKeys: ReadonlySet<string>,
  message: AnswerMessage,
  network: Domain,
): boolean {
  try {
    return networkKeys.has(addressKey(signerOf(signedDigest(network, message), message.signature)));
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    return false;
  }
}

function judge(
  message: RequestMessage | BootstrapPackage,
  reportData: Uint8Array,
  claim: Claimed,
  { flavour, time, policy, memory }: Circumstances,
): readonly Step[] {
  const { evidence, steps } = verify(fromHex(message.quote), {
    trustRoot: trustRootOf(flavour),
    now: new Date(time * 1000),
    collateral: message.collateral === undefined ? undefined : collateralOf(message.collateral),
    policy,
    memory,
    rtmr3: replay(expectedRequestLog(flavour, fromHex(message.config, 32))),
    reportData,
    measurement: fromHex(claim.measurement, 32),
  });
  requireSame('platform of the quote', toHex(evidence.platform), claim.platform);
  requireSame('quote hash', toHex(evidence.quoteHash), message.quoteHash);
  return steps;
}

function proofBy(prove: () => readonly Step[]): Proof {
  try {
    return { is: 'verified', steps: prove() };
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    return { is: 'refused', code: codeOf(error), message: error.message };
  }
}

function requireSame(what: string, found: string | number, claimed: string | number): void {
  if (found === claimed) return;
  throw new DstackError(
    'RECORD_CONTRADICTS_CHAIN',
    `the record's ${what} is ${found}, the chain has ${claimed}`,
  );
}
