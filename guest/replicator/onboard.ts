/**
 * Answers another node's request, in two steps, so that nobody gets the secret without a trace on chain.
 *
 * `onboard` judges the request: its main function is the list of checks, in the order of the design, each with its own code.
 * It gives out the network key's signature over the hash of the sealed secret, for the requester to post. `sealed` gives out
 * the bytes themselves, once the contract shows that hash. Sealing is deterministic, so nothing is kept between the steps,
 * and different nodes can do them.
 */
import { collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { createMemory, type VerifierMemory } from '../../lib/attestation/memory.ts';
import { type AttestationResult, type Evidence, verifyAsking } from '../../lib/attestation/verify.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { contractAsRelyingParty } from '../../lib/chain/network-policy.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress, sameHex } from '../../lib/protocol/hex.ts';
import type { NetworkView } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { answerHash, isRecordedAnswer } from '../../lib/protocol/sealing.ts';
import { requestStatement, requireSigner } from '../../lib/protocol/signed-messages.ts';
import type { Identity } from './identity.ts';
import type { KeyManager } from './key-manager.ts';

export interface Onboarder {
  /** Judges a request; the answer contains only the hash of the sealed bytes. */
  onboard(message: RequestMessage): Promise<AnswerMessage>;
  /**
   * The sealed secret for a request whose answer the contract shows, under the network's confirmation rule.
   *
   * The quote is not judged again: the contract accepted the hash of exactly these bytes under the network key's signature, so
   * a node that has the secret judged a request with this hash, and the hash covers the KEM key that they are sealed to. A
   * revocation since then came too late, as it would have after joining.
   * @throws ANSWER_NOT_ON_CHAIN while the contract shows none; ANSWER_MISMATCH when it shows another; KEY_SUPERSEDED,
   * REQUEST_EPOCH, REQUEST_OTHER_NETWORK, CHAIN_*
   */
  sealed(message: RequestMessage): Promise<SealedMessage>;
}

export function onboarder(identity: Identity, reader: NetworkReader, keys: KeyManager): Onboarder {
  const memory = createMemory(identity.trustRoot);
  return {
    onboard: (message) => answerRequest(identity, reader, keys, memory, message),
    sealed: (message) => sealRecorded(identity, reader, keys, message),
  };
}

async function answerRequest(
  identity: Identity,
  reader: NetworkReader,
  keys: KeyManager,
  memory: VerifierMemory,
  message: RequestMessage,
): Promise<AnswerMessage> {
  const head = await reader.chain.head();
  const { hash } = requestOf(message);

  requireThisNetwork(identity, message);
  await requireOpenOnChain(reader, keys, message, hash, head);
  requireSigner(identity.domain, message, message.node, 'REQUEST_SIGNATURE');
  const { evidence } = await appraise(identity, reader, memory, message, head);
  await requireCanonicalBlock(reader, message);

  return signAnswer(identity, keys, message, hash, evidence);
}

function requireThisNetwork({ domain }: Identity, message: RequestMessage): void {
  if (message.chainId !== domain.chainId || !sameAddress(message.contract, domain.contract)) {
    throw new DstackError(
      'REQUEST_OTHER_NETWORK',
      `the request is for ${message.contract} on chain ${message.chainId}, this node is of ${domain.contract} on ${domain.chainId}`,
    );
  }
}

/** Reads the contract's state: an event proves nothing, and the slot says who asked, when, and in which epoch. */
async function requireOpenOnChain(
  reader: NetworkReader,
  keys: KeyManager,
  message: RequestMessage,
  hash: Uint8Array,
  head: Head,
): Promise<void> {
  const [network, onChain] = await Promise.all([reader.network(head), reader.request(hash, head)]);
  const shown = toHex(hash);
  requireNetworkKey(network, keys);
  if (onChain.state !== 'open') {
    const code = onChain.state === 'expired' ? 'REQUEST_EXPIRED' : 'REQUEST_NOT_OPEN';
    throw new DstackError(code, `the contract shows request ${shown} as ${onChain.state}`);
  }
  if (!sameAddress(onChain.node, message.node)) {
    throw new DstackError(
      'REQUEST_OTHER_NODE',
      `request ${shown} was registered by ${onChain.node}, not ${message.node}`,
    );
  }
  requireEpoch(onChain.epoch, message, keys);
}

/** @throws KEY_SUPERSEDED when the contract has another key than this node */
export function requireNetworkKey(network: NetworkView, keys: KeyManager): void {
  if (!sameAddress(network.networkKey, keys.networkKey)) {
    throw new DstackError(
      'KEY_SUPERSEDED',
      `the contract's network key is ${network.networkKey}, not this node's`,
    );
  }
}

function requireEpoch(shown: number, message: RequestMessage, keys: KeyManager): void {
  if (shown !== message.epoch || message.epoch !== keys.epoch) {
    throw new DstackError(
      'REQUEST_EPOCH',
      `the request is for epoch ${message.epoch}, the network is in ${keys.epoch}`,
    );
  }
}

/** A quote contains a block hash so that it can't be older than that block: the hash must be on this chain. */
async function requireCanonicalBlock(reader: NetworkReader, message: RequestMessage): Promise<void> {
  const block = await reader.chain.block(message.blockNumber);
  if (!sameHex(block.hash, message.blockHash)) {
    throw new DstackError(
      'REQUEST_BLOCK',
      `block ${message.blockNumber} is ${block.hash}, the request says ${message.blockHash}`,
    );
  }
}

/**
 * Checks that this is the quote that the request on chain names; its signature chain to this image's own trust root,
 * revocation, quoting enclave and TCB by Intel's rules, at the chain's time; then the status against the contract's policy, and
 * the TD's attributes against this image's own, which is the strict one and cannot be loosened; then whether the contract allows
 * what was found; last, what the TD that made this request must state: the closed list of the design in RTMR3, and the
 * request's own fields.
 */
function appraise(
  identity: Identity,
  reader: NetworkReader,
  memory: VerifierMemory,
  message: RequestMessage,
  head: Head,
): Promise<AttestationResult> {
  const config = fromHex(message.config, 32);
  const now = new Date(reader.chain.now() * 1000);
  const expected = {
    trustRoot: identity.trustRoot,
    now,
    collateral: message.collateral === undefined ? undefined : collateralOf(message.collateral),
    memory,
    quoteHash: fromHex(message.quoteHash, 32),
    rtmr3: identity.requestRtmr3(config),
    reportData: requestStatement(identity.domain, message),
  };
  return verifyAsking(fromHex(message.quote), expected, contractAsRelyingParty(reader, config, head));
}

async function signAnswer(
  { domain }: Identity,
  keys: KeyManager,
  message: RequestMessage,
  hash: Uint8Array,
  { measurement, platform }: Evidence,
): Promise<AnswerMessage> {
  const config = fromHex(message.config, 32);
  const hashOfAnswer = answerHash(await keys.sealFor(fromHex(message.kemPublicKey), hash));
  const signature = keys.signOnboard({
    node: message.node,
    requestHash: hash,
    measurement,
    config,
    platform,
    answerHash: hashOfAnswer,
  });
  return {
    type: 'answer',
    ...domain,
    node: message.node,
    requestHash: toHex(hash),
    answerHash: toHex(hashOfAnswer),
    measurement: toHex(measurement),
    config: message.config,
    platform: toHex(platform),
    signature,
  };
}

/** The second step. The chain is read first: nothing is even sealed for a request that was not answered. */
async function sealRecorded(
  identity: Identity,
  reader: NetworkReader,
  keys: KeyManager,
  message: RequestMessage,
): Promise<SealedMessage> {
  const { hash } = requestOf(message);
  const shown = toHex(hash);
  requireThisNetwork(identity, message);
  const head = await reader.chain.head();
  const [network, onChain] = await Promise.all([reader.network(head), reader.request(hash, head)]);
  requireNetworkKey(network, keys);
  // An answered slot does not contain its epoch. The answer's epoch is that of the secret, which decides the hash.
  requireEpoch(network.epoch, message, keys);
  if (onChain.state !== 'answered') {
    throw new DstackError(
      'ANSWER_NOT_ON_CHAIN',
      `the contract shows request ${shown} as ${onChain.state}, not answered, where it is confirmed`,
    );
  }
  const sealed = await keys.sealFor(fromHex(message.kemPublicKey), hash);
  if (!isRecordedAnswer(answerHash(sealed), fromHex(onChain.answerHash, 32))) {
    throw new DstackError(
      'ANSWER_MISMATCH',
      `the contract shows another answer to request ${shown} than this node would give`,
    );
  }
  return { type: 'sealed', ...identity.domain, requestHash: shown, sealed: toHex(sealed) };
}
