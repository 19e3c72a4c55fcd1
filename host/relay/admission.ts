/**
 * Which messages are worth keeping and passing on, cheapest check first. What gets through is a request, recent, signed by
 * the very node that it names and with a quote made for it, or an answer signed by the network's key, or the sealed bytes
 * that such an answer names, all for our contract.
 *
 * None of this decides who joins: nodes check everything again, and more. It keeps garbage out of stores and off wires.
 */
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError, Retryable } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { NetworkView } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type GossipMessage,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import { bootstrapDigest, type Domain, onboardDigest, requestDigest } from '../../lib/protocol/typed-data.ts';
import { withCheckedEvidence } from './evidence.ts';
import { hashOfSealed, isSealedOnChain, type Network } from './network.ts';

/** The chain knows the hashes of so many blocks; a request about an older one can't be registered any more. */
const BLOCK_HASHES = 256;

/** Before anything is refused for what the chain says, the chain is asked again, but not more often than this. */
const REFUSE_BY_AGE_MS = 250;

/** What this host holds already: sealed bytes are looked up in it before the chain is asked. */
export interface Held {
  /** @param requestHash 64 hex digits */
  about(type: 'answer', requestHash: string): readonly AnswerMessage[];
  /** Whether a request is known to be, or to have been, on chain. */
  isKept(requestHash: string): boolean;
}

/**
 * What gossip may keep of a message.
 * @param flavour of this host's own node, once it is known
 * @throws GOSSIP_OTHER_NETWORK, GOSSIP_STALE, GOSSIP_SIGNATURE, GOSSIP_QUOTE, GOSSIP_SEALED for good; Retryable GOSSIP_AHEAD (our
 * endpoint is behind the sender's) and RPC_*
 */
export async function admit(
  network: Pick<Network, 'domain' | 'recent' | 'request'>,
  message: GossipMessage,
  held: Held,
  flavour?: Flavour,
): Promise<GossipMessage> {
  checkNetwork(network.domain, message);
  if (message.type === 'sealed') {
    await checkSealed(network, message, held);
    return message;
  }
  if (message.type === 'request') checkRequestSignature(network.domain, message);
  try {
    checkAgainst(network.domain, await network.recent(), message);
  } catch (error) {
    if (!(error instanceof DstackError) || error.code.startsWith('RPC_')) throw error;
    checkAgainst(network.domain, await network.recent(REFUSE_BY_AGE_MS), message);
  }
  return message.type === 'request' ? withCheckedEvidence(message, flavour) : message;
}

function checkAgainst(
  domain: Domain,
  { view, head }: { view: NetworkView; head: number },
  message: RequestMessage | AnswerMessage,
): void {
  if (message.type === 'answer') {
    checkAnswerSignature(domain, message, view.networkKey);
    return;
  }
  const about = `the request is about block ${message.blockNumber} in epoch ${message.epoch}; the chain is at block ${head} in epoch ${view.epoch}`;
  if (message.epoch > view.epoch || message.blockNumber > head + BLOCK_HASHES) {
    throw new Retryable('GOSSIP_AHEAD', about);
  }
  if (message.epoch < view.epoch || message.blockNumber < head - BLOCK_HASHES - view.requestWindow) {
    throw new DstackError('GOSSIP_STALE', about);
  }
}

/**
 * Sealed bytes carry no signature: what vouches for them is an answer that the network's key signed over their hash, or
 * the contract, which is asked only about requests that were on chain.
 * @throws GOSSIP_SEALED unless one of them does
 */
async function checkSealed(
  network: Pick<Network, 'request'>,
  message: SealedMessage,
  held: Held,
): Promise<void> {
  const { requestHash } = message;
  const hash = hashOfSealed(message);
  if (held.about('answer', requestHash).some(({ answerHash }) => answerHash === hash)) return;
  if (held.isKept(requestHash) && isSealedOnChain(message, await network.request(requestHash))) return;
  throw new DstackError(
    'GOSSIP_SEALED',
    `no answer to ${requestHash} is known that names these sealed bytes`,
  );
}

/** @throws GOSSIP_OTHER_NETWORK */
export function checkNetwork(domain: Domain, message: { chainId: number; contract: string }): void {
  if (
    message.chainId !== domain.chainId ||
    message.contract.toLowerCase() !== domain.contract.toLowerCase()
  ) {
    throw new DstackError(
      'GOSSIP_OTHER_NETWORK',
      `the message is for ${message.contract} on chain ${message.chainId}, this relay serves ${domain.contract} on ${domain.chainId}`,
    );
  }
}

/** @throws GOSSIP_SIGNATURE unless the node that it names signed it */
export function checkRequestSignature(domain: Domain, message: RequestMessage): void {
  checkSigner(
    message,
    requestDigest(domain, requestOf(message).hash),
    message.node,
    'the node that it names',
  );
}

/** @throws GOSSIP_SIGNATURE unless the network's key signed it. @param networkKey as the contract has it */
export function checkAnswerSignature(domain: Domain, message: AnswerMessage, networkKey: string): void {
  const digest = onboardDigest(domain, {
    node: message.node,
    requestHash: fromHex(message.requestHash),
    measurement: fromHex(message.measurement),
    config: fromHex(message.config),
    platform: fromHex(message.platform),
    answerHash: fromHex(message.answerHash),
  });
  checkSigner(message, digest, networkKey, "the network's key");
}

/** @throws GOSSIP_SIGNATURE unless the key that it announces signed it */
export function checkBootstrapSignature(domain: Domain, message: BootstrapPackage): void {
  const digest = bootstrapDigest(domain, {
    networkKey: message.networkKey,
    measurement: fromHex(message.measurement),
    config: fromHex(message.config),
    platform: fromHex(message.platform),
    quoteHash: fromHex(message.quoteHash),
    blockNumber: message.blockNumber,
    blockHash: fromHex(message.blockHash),
    epoch: message.epoch,
  });
  checkSigner(message, digest, message.networkKey, 'the key that it announces');
}

function checkSigner(
  message: { type: string; signature: { r: string; vs: string } },
  digest: Uint8Array,
  expected: string,
  who: string,
): void {
  let signer: string;
  try {
    signer = recover(digest, fromHex(message.signature.r, 32), fromHex(message.signature.vs, 32));
  } catch (cause) {
    throw new DstackError('GOSSIP_SIGNATURE', `the ${message.type} has no valid signature`, { cause });
  }
  // Before bootstrap the contract's key is zero; nothing recovers to zero, so nothing passes.
  if (signer.toLowerCase() !== expected.toLowerCase()) {
    throw new DstackError(
      'GOSSIP_SIGNATURE',
      `the ${message.type} was signed by ${signer}, not by ${who} (${expected})`,
    );
  }
}
