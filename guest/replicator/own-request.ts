/**
 * This node's own request for the secret, from the quote to the opened answer.
 *
 * Every request has its own keys: a KEM key for the answer and a one-time signing key. They are kept for the last few
 * requests, because the answer to an earlier one may appear on chain before the newer one expires.
 */

import type { Evidence } from '../../lib/attestation/verify.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sameHex } from '../../lib/protocol/hex.ts';
import type { RequestMessage, SealedMessage } from '../../lib/protocol/onboarding-messages.ts';
import { registerReportData } from '../../lib/protocol/report-data.ts';
import { answerHash, isRecordedAnswer, type KemKeyPair, newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { addressOf, compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import { requestDigest, requestHash } from '../../lib/protocol/typed-data.ts';
import type { Attestor } from './attestor.ts';
import { type Identity, ownEvidence } from './identity.ts';

/** The contract accepts a block hash for 256 blocks; an older request has too little time left to be registered. */
const REGISTER_WITHIN_BLOCKS = 200;
const KEPT_REQUESTS = 4;

/** An answer that is on chain but does not arrive was lost or is withheld: after this long, the node asks again. */
const ANSWER_WITHIN_MS = 120_000;

/** A clock that only moves forward, in milliseconds. */
export type Monotonic = () => number;

interface OpenRequest {
  message: RequestMessage;
  /** When the contract first showed it as answered, by the monotonic clock; milliseconds. */
  answeredAt?: number;
  hash: Uint8Array;
  kem: KemKeyPair;
  evidence: Evidence;
}

export interface OwnRequests {
  /** The newest request that can still be registered or answered; makes one if there is none. */
  current(): Promise<RequestMessage>;
  currentHash(): Uint8Array | undefined;
  /**
   * Opens an answer, if it is the one that the contract recorded for one of this node's requests. Returns the secret
   * unchecked: the caller must compare it with the network's key.
   * @throws ANSWER_UNKNOWN_REQUEST, ANSWER_NOT_ON_CHAIN, ANSWER_MISMATCH, SEALED_UNOPENABLE
   */
  open(answer: SealedMessage): Promise<{ secret: Uint8Array; epoch: number; evidence: Evidence }>;
  /** Gives up a request whose answer on chain turned out to be useless. */
  discard(requestHash: string): void;
}

export function ownRequests(
  identity: Identity,
  reader: NetworkReader,
  attestor: Attestor,
  monotonic: Monotonic = () => performance.now(),
): OwnRequests {
  const kept: OpenRequest[] = [];
  let making: Promise<RequestMessage> | undefined;

  async function current(): Promise<RequestMessage> {
    const newest = kept.at(-1);
    if (newest !== undefined && (await isUsable(newest))) return newest.message;
    // One at a time: two callers must not cause two quotes.
    making ??= make().finally(() => {
      making = undefined;
    });
    return making;
  }

  async function isUsable(open: OpenRequest): Promise<boolean> {
    const { message, hash } = open;
    const head = await reader.chain.head();
    const [network, onChain] = await Promise.all([reader.network(head), reader.request(hash, head)]);
    if (network.epoch !== message.epoch) return false;
    if (onChain.state === 'none') return canBeRegistered(message, head);
    if (onChain.state !== 'answered') return onChain.state === 'open';
    open.answeredAt ??= monotonic();
    return monotonic() - open.answeredAt < ANSWER_WITHIN_MS;
  }

  /** The contract adds the block's hash itself, so for a block that a re-org dropped the signature would be wrong. */
  async function canBeRegistered(message: RequestMessage, head: Head): Promise<boolean> {
    if (head.number - message.blockNumber >= REGISTER_WITHIN_BLOCKS) return false;
    // An endpoint that lags behind is no reason to give up the request.
    if (message.blockNumber > head.number) return true;
    const { hash } = await reader.chain.block(message.blockNumber);
    return sameHex(hash, message.blockHash);
  }

  async function make(): Promise<RequestMessage> {
    const head = await reader.chain.head();
    const network = await reader.network(head);
    if (network.epoch === 0) {
      throw new DstackError(
        'NETWORK_NOT_BOOTSTRAPPED',
        'the network has no key yet; its owner must bootstrap it first',
      );
    }
    const [kem, nodeKey] = [await newKemKeyPair(), newPrivateKey()];
    const { domain, config } = identity;
    const node = addressOf(nodeKey);
    const blockHash = fromHex(head.hash, 32);
    const reportData = registerReportData({
      ...domain,
      node,
      kemPublicKey: kem.publicKey,
      config,
      epoch: network.epoch,
      blockHash,
    });
    const quote = await attestor.quote(reportData);
    const evidence = ownEvidence(identity, quote, reportData, reader.chain.now());
    const hash = requestHash({
      node,
      kemKeyHash: sha256(kem.publicKey),
      quoteHash: evidence.quoteHash,
      blockNumber: head.number,
      blockHash,
      config,
      epoch: network.epoch,
    });
    const message: RequestMessage = {
      type: 'request',
      ...domain,
      node,
      kemPublicKey: toHex(kem.publicKey),
      config: toHex(config),
      epoch: network.epoch,
      blockNumber: head.number,
      blockHash: toHex(blockHash),
      quote: toHex(quote),
      quoteHash: toHex(evidence.quoteHash),
      signature: compact(sign(requestDigest(domain, hash), nodeKey)),
    };
    nodeKey.fill(0);
    kept.push({ message, hash, kem, evidence });
    if (kept.length > KEPT_REQUESTS) kept.shift();
    return message;
  }

  async function open(answer: SealedMessage) {
    const mine = kept.find(({ hash }) => toHex(hash) === answer.requestHash);
    if (mine === undefined) {
      throw new DstackError(
        'ANSWER_UNKNOWN_REQUEST',
        `this node made no request ${answer.requestHash}, or has replaced it since`,
      );
    }
    const onChain = await reader.request(mine.hash);
    if (onChain.state !== 'answered') {
      throw new DstackError(
        'ANSWER_NOT_ON_CHAIN',
        `the contract shows request ${answer.requestHash} as ${onChain.state}; post onboard and wait until it is confirmed`,
      );
    }
    const sealed = fromHex(answer.sealed);
    if (!isRecordedAnswer(answerHash(sealed), fromHex(onChain.answerHash, 32))) {
      throw new DstackError(
        'ANSWER_MISMATCH',
        `the answer to ${answer.requestHash} is not the one whose hash the contract recorded`,
      );
    }
    const secret = await mine.kem.open(sealed, mine.hash);
    return { secret, epoch: mine.message.epoch, evidence: mine.evidence };
  }

  function discard(requestHash: string): void {
    const at = kept.findIndex(({ hash }) => toHex(hash) === requestHash);
    if (at >= 0) kept.splice(at, 1);
  }

  return { current, currentHash: () => kept.at(-1)?.hash, open, discard };
}
