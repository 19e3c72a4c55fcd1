/**
 * One node's evidence, judged again as its onboarder (or the owner, for the first node) had to judge it: the same
 * verifier, at the block's time, with the collateral that was kept with it. Several versions of a record may have been
 * found; one that holds is enough.
 */

import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import type { VerifierMemory } from '../../lib/attestation/memory.ts';
import type { Policy } from '../../lib/attestation/policy.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import type { Step } from '../../lib/attestation/trace.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey, type Hex } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type {
  AnswerMessage,
  BootstrapPackage,
  RequestMessage,
  SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { answerHash } from '../../lib/protocol/sealing.ts';
import {
  bootstrapStatement,
  requestStatement,
  requireSigner,
  signedDigest,
  signerOf,
} from '../../lib/protocol/signed-messages.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';

/** What the public files prove of one node. */
export type Proof =
  | { readonly is: 'verified'; readonly steps: readonly Step[] }
  | { readonly is: 'missing'; readonly code: string; readonly message: string }
  | { readonly is: 'refused'; readonly code: string; readonly message: string };

export interface Circumstances {
  readonly network: Domain;
  /** Decides the trust root and the RTMR3 events: the auditor gives it, no record does. */
  readonly flavour: Flavour;
  /** When it was judged, Unix seconds. */
  readonly time: number;
  /** The contract's TCB policy at that time. */
  readonly policy: Policy;
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

/** @param versions every bootstrap package that was found with this quote hash */
export function proveBootstrap(
  versions: readonly BootstrapPackage[],
  claim: BootstrapClaim,
  circumstances: Circumstances,
): Proof {
  return firstThatHolds(
    versions,
    'BOOTSTRAP_RECORD_MISSING',
    `bootstrap package of ${claim.networkKey}`,
    (message) => {
      requireSame('network key', addressKey(message.networkKey), addressKey(claim.networkKey));
      requireSame('config', message.config, claim.config);
      requireSame('block hash', message.blockHash, claim.blockHash);
      requireSame('epoch', message.epoch, claim.epoch);
      const { network } = circumstances;
      const steps = judge(message, bootstrapStatement(network, message), claim, circumstances);
      requireSigner(network, message, message.networkKey, 'RECORD_SIGNATURE');
      return steps;
    },
  );
}

/** @param versions every request that was found with this request hash, which `requestHash` binds to the chain's */
export function proveRequest(
  versions: readonly RequestMessage[],
  requestHash: string,
  claim: Claimed,
  circumstances: Circumstances,
): Proof {
  return firstThatHolds(versions, 'REQUEST_RECORD_MISSING', `request ${requestHash}`, (message) => {
    const { network } = circumstances;
    const steps = judge(message, requestStatement(network, message), claim, circumstances);
    requireSigner(network, message, message.node, 'RECORD_SIGNATURE');
    return steps;
  });
}

/**
 * Whether an answer that was found is the one that the contract recorded, signed by the network key.
 * @param recorded the contract's answer hash: the top 248 bits, hex
 */
export function proveAnswer(
  versions: readonly AnswerMessage[],
  requestHash: string,
  recorded: string,
  networkKey: Address,
  network: Domain,
): Proof {
  return firstThatHolds(versions, 'ANSWER_RECORD_MISSING', `answer to ${requestHash}`, (message) => {
    requireSame('top 248 bits of the answer hash', message.answerHash.slice(0, 62), recorded.slice(0, 62));
    requireSigner(network, message, networkKey, 'RECORD_SIGNATURE');
    return [];
  });
}

/** An answer that the network's key signed. */
export interface SignedAnswer {
  readonly node: Address;
  /** Hex without 0x. */
  readonly answerHash: string;
  /** Whether the bytes that have this hash, the sealed secret, were found. */
  readonly sealedFound: boolean;
}

/**
 * The answers among these that one of the network's keys signed, each hash once. Anyone can write a record, so one that no key of the network
 * signed means nothing.
 * @param sealed bytes found for this request, whoever made them
 * @param networkKeys of all epochs, lower case
 */
export function signedAnswers(
  versions: readonly AnswerMessage[],
  sealed: readonly SealedMessage[],
  requestHash: Hex,
  networkKeys: ReadonlySet<string>,
  network: Domain,
): SignedAnswer[] {
  const found = new Map<string, SignedAnswer>();
  const hashes = new Set(sealed.map((message) => toHex(answerHash(fromHex(message.sealed)))));
  for (const message of versions) {
    const signer = validSigner(network, { ...message, requestHash });
    if (signer === undefined || !networkKeys.has(signer)) continue;
    const { node, answerHash: hash } = message;
    found.set(hash, { node, answerHash: hash, sealedFound: hashes.has(hash) });
  }
  return [...found.values()];
}

/** As a key; undefined when there is no valid signature. */
function validSigner(network: Domain, message: AnswerMessage): Address | undefined {
  try {
    return addressKey(signerOf(signedDigest(network, message), message.signature));
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    return undefined;
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

function firstThatHolds<T>(
  versions: readonly T[],
  missing: string,
  what: string,
  prove: (version: T) => readonly Step[],
): Proof {
  let refusal: Proof = {
    is: 'missing',
    code: missing,
    message: `no archive has the ${what}: give more with --archive`,
  };
  for (const version of versions) {
    try {
      return { is: 'verified', steps: prove(version) };
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      refusal = { is: 'refused', code: codeOf(error), message: error.message };
    }
  }
  return refusal;
}

function requireSame(what: string, found: string | number, claimed: string | number): void {
  if (found === claimed) return;
  throw new DstackError(
    'RECORD_CONTRADICTS_CHAIN',
    `the record's ${what} is ${found}, the chain has ${claimed}`,
  );
}
