/**
 * What the checks of gossiped messages share: which messages are worth keeping and passing on. Each kind's own are in
 * kinds/, cheapest first.
 *
 * None of this decides who joins: nodes check everything again, and more. It keeps garbage out of stores and off wires.
 */

import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { NetworkView } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type RequestMessage,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import { bootstrapDigest, type Domain, onboardDigest, requestDigest } from '../../lib/protocol/typed-data.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { Network } from './network.ts';

/** What a check of a message may ask. */
export interface Admission {
  network: Pick<Network, 'domain' | 'recent' | 'request'>;
  /** What this host holds already. */
  held: Pick<MessageLog, 'about' | 'isKept'>;
  /** Of this host's own node; undefined while it is not known. */
  flavour: Flavour | undefined;
}

/** The network and the newest block's number. */
export interface RecentView {
  view: NetworkView;
  head: number;
}

/** Before anything is refused for what the chain says, the chain is asked again, but not more often than this. */
const REFUSE_BY_AGE_MS = 250;

/** Runs a check on what the chain said lately and, before it refuses, on what it says now. @throws what `judge` throws, RPC_* */
export async function withRecent(
  network: Pick<Network, 'recent'>,
  judge: (recent: RecentView) => void,
): Promise<void> {
  try {
    judge(await network.recent());
  } catch (error) {
    if (!(error instanceof DstackError) || error.code.startsWith('RPC_')) throw error;
    judge(await network.recent(REFUSE_BY_AGE_MS));
  }
}

/** @throws GOSSIP_OTHER_NETWORK */
export function checkNetwork(domain: Domain, message: { chainId: number; contract: Address }): void {
  if (message.chainId !== domain.chainId || !sameAddress(message.contract, domain.contract)) {
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
export function checkAnswerSignature(domain: Domain, message: AnswerMessage, networkKey: Address): void {
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
  expected: Address,
  who: string,
): void {
  let signer: Address;
  try {
    signer = recover(digest, fromHex(message.signature.r, 32), fromHex(message.signature.vs, 32));
  } catch (cause) {
    throw new DstackError('GOSSIP_SIGNATURE', `the ${message.type} has no valid signature`, { cause });
  }
  // Before bootstrap the contract's key is zero; nothing recovers to zero, so nothing passes.
  if (!sameAddress(signer, expected)) {
    throw new DstackError(
      'GOSSIP_SIGNATURE',
      `the ${message.type} was signed by ${signer}, not by ${who} (${expected})`,
    );
  }
}
