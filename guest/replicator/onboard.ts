/**
 * Answering another node's request. The main function is the list of checks, in the order of the design; each refuses
 * with a code of its own. Only after the last one is anything sealed.
 */
import { collateralOf } from '../../lib/attestation/collateral.ts';
import { createMemory, type VerifierMemory } from '../../lib/attestation/memory.ts';
import { parseQuote, quoteHash } from '../../lib/attestation/quote.ts';
import { type Evidence, judgeTd, requireStatement, requireTd } from '../../lib/attestation/verify.ts';
import type { Head } from '../../lib/framework/chain-client.ts';
import type { KeyManager } from '../../lib/framework/key-manager.ts';
import { applyNetworkPolicy, requireAllowed } from '../../lib/framework/network-policy.ts';
import type { NetworkReader } from '../../lib/framework/network-reader.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  type AnswerMessage,
  type RequestMessage,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { registerReportData } from '../../lib/protocol/report-data.ts';
import { answerHash } from '../../lib/protocol/sealing.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import { requestDigest } from '../../lib/protocol/typed-data.ts';
import type { Identity } from './identity.ts';

/** Answers that are kept, so that a relay which asks again gets the same bytes and not a second sealing. */
const KEPT_ANSWERS = 256;

export interface Onboarder {
  onboard(message: RequestMessage): Promise<AnswerMessage>;
}

export function onboarder(identity: Identity, reader: NetworkReader, keys: KeyManager): Onboarder {
  const answers = new Map<string, Promise<AnswerMessage>>();
  const memory = createMemory(identity.trustRoot);

  return {
    onboard(message) {
      const { hash } = requestOf(message);
      // The signature and the quote are not part of the hash: only a message that passed may stand for it.
      const id = `${toHex(hash)} ${message.signature.r} ${message.signature.vs} ${message.quote}`;
      const known = answers.get(id);
      if (known !== undefined) return known;
      const answer = answerRequest(identity, reader, keys, memory, message);
      answers.set(id, answer);
      if (answers.size > KEPT_ANSWERS) answers.delete(answers.keys().next().value!);
      answer.catch(() => answers.delete(id));
      return answer;
    },
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
  requireNodeSignature(identity, message, hash);
  const quote = requireQuote(message);
  const evidence = await judge(identity, reader, memory, message, quote, head);
  requireStatement(evidence, statementOf(identity, message));
  await requireCanonicalBlock(reader, message);

  return sealAnswer(identity, keys, message, hash, evidence);
}

function requireThisNetwork({ domain }: Identity, message: RequestMessage): void {
  if (
    message.chainId !== domain.chainId ||
    message.contract.toLowerCase() !== domain.contract.toLowerCase()
  ) {
    throw new DstackError(
      'REQUEST_OTHER_NETWORK',
      `the request is for ${message.contract} on chain ${message.chainId}, this node is of ${domain.contract} on ${domain.chainId}`,
    );
  }
}

/** Reads the contract's state: an event is no proof, and the slot says who asked, when, and in which epoch. */
async function requireOpenOnChain(
  reader: NetworkReader,
  keys: KeyManager,
  message: RequestMessage,
  hash: Uint8Array,
  head: Head,
): Promise<void> {
  const [network, onChain] = await Promise.all([reader.network(head), reader.request(hash, head)]);
  const shown = toHex(hash);
  if (network.networkKey.toLowerCase() !== keys.networkKey.toLowerCase()) {
    throw new DstackError(
      'KEY_SUPERSEDED',
      `the contract's network key is ${network.networkKey}, not this node's`,
    );
  }
  if (onChain.state !== 'open') {
    const code = onChain.state === 'expired' ? 'REQUEST_EXPIRED' : 'REQUEST_NOT_OPEN';
    throw new DstackError(code, `the contract shows request ${shown} as ${onChain.state}`);
  }
  if (onChain.node.toLowerCase() !== message.node.toLowerCase()) {
    throw new DstackError(
      'REQUEST_OTHER_NODE',
      `request ${shown} was registered by ${onChain.node}, not ${message.node}`,
    );
  }
  if (onChain.epoch !== message.epoch || message.epoch !== keys.epoch) {
    throw new DstackError(
      'REQUEST_EPOCH',
      `the request is for epoch ${message.epoch}, the network is in ${keys.epoch}`,
    );
  }
}

/** The quote holds a block hash so that it can't be older than that block; so the hash must be the chain's own. */
async function requireCanonicalBlock(reader: NetworkReader, message: RequestMessage): Promise<void> {
  const block = await reader.chain.block(message.blockNumber);
  if (fromHexText(block.hash) !== message.blockHash) {
    throw new DstackError(
      'REQUEST_BLOCK',
      `block ${message.blockNumber} is ${block.hash}, the request says ${message.blockHash}`,
    );
  }
}

function requireNodeSignature({ domain }: Identity, message: RequestMessage, hash: Uint8Array): void {
  let signer: string;
  try {
    const { r, vs } = message.signature;
    signer = recover(requestDigest(domain, hash), fromHex(r, 32), fromHex(vs, 32));
  } catch (cause) {
    throw new DstackError('REQUEST_SIGNATURE', 'the request’s signature is not one', { cause });
  }
  if (signer.toLowerCase() !== message.node.toLowerCase()) {
    throw new DstackError(
      'REQUEST_SIGNATURE',
      `the request is signed by ${signer}, not by its node ${message.node}`,
    );
  }
}

/** The structure, and that this is the very quote that the request on chain is about. */
function requireQuote(message: RequestMessage): Uint8Array {
  const bytes = fromHex(message.quote);
  const quote = parseQuote(bytes);
  requireTd(quote);
  const actual = toHex(quoteHash(quote));
  if (actual !== message.quoteHash) {
    throw new DstackError(
      'QUOTE_HASH_MISMATCH',
      `the quote hashes to ${actual}, the request says ${message.quoteHash}`,
    );
  }
  return bytes;
}

/**
 * Signature chain to this image's own trust root, revocation, quoting enclave and TCB by Intel's rules, at the chain's
 * time; then the contract's policy for the status, and this image's own for the TD's attributes: the strict one, which
 * nothing loosens; then whether the contract allows what was found.
 */
async function judge(
  identity: Identity,
  reader: NetworkReader,
  memory: VerifierMemory,
  message: RequestMessage,
  quote: Uint8Array,
  head: Head,
): Promise<Evidence> {
  const now = new Date(reader.chain.now() * 1000);
  const collateral = message.collateral === undefined ? undefined : collateralOf(message.collateral);
  const { finding, evidence } = judgeTd(quote, { trustRoot: identity.trustRoot, now, collateral, memory });
  await applyNetworkPolicy(reader, finding, now, head);
  await requireAllowed(reader, { ...evidence, config: fromHex(message.config, 32) }, head);
  return evidence;
}

/** What a TD that makes this request must have said: the design's closed list in RTMR3, and the request's own words. */
function statementOf(identity: Identity, message: RequestMessage) {
  const config = fromHex(message.config, 32);
  return {
    rtmr3: identity.requestRtmr3(config),
    reportData: registerReportData({
      ...identity.domain,
      node: message.node,
      kemPublicKey: fromHex(message.kemPublicKey),
      config,
      epoch: message.epoch,
      blockHash: fromHex(message.blockHash, 32),
    }),
  };
}

async function sealAnswer(
  { domain }: Identity,
  keys: KeyManager,
  message: RequestMessage,
  hash: Uint8Array,
  { measurement, platform }: Evidence,
): Promise<AnswerMessage> {
  const config = fromHex(message.config, 32);
  const sealed = await keys.sealFor(fromHex(message.kemPublicKey), hash);
  const signature = keys.signOnboard({
    node: message.node,
    requestHash: hash,
    measurement,
    config,
    platform,
    answerHash: answerHash(sealed),
  });
  return {
    type: 'answer',
    ...domain,
    node: message.node,
    requestHash: toHex(hash),
    sealed: toHex(sealed),
    measurement: toHex(measurement),
    config: message.config,
    platform: toHex(platform),
    signature,
  };
}

const fromHexText = (text: string): string => toHex(fromHex(text, 32));
