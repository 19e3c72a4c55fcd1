/**
 * What the checks of gossiped messages share: which messages are worth keeping and passing on. Each kind's own are in
 * kinds/, cheapest first.
 *
 * None of this decides who joins: nodes check everything again, and more. It keeps garbage out of stores and off wires.
 */

import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type {
  AnswerMessage,
  BootstrapPackage,
  RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { requireSigner } from '../../lib/protocol/signed-messages.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { CertificateRule } from '../../lib/site/certificate-rule.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { Network, RecentView as SettledView } from './network.ts';

/** What a check of a message may ask. */
export interface Admission {
  network: Pick<Network, 'domain' | 'recent' | 'request'>;
  /** What this host holds already. */
  held: Pick<MessageLog, 'about' | 'isKept'>;
  /** Of this host's own node; undefined while it is not known. */
  flavour: Flavour | undefined;
  /** What its website's certificate must be; undefined while it has not said. */
  certificate: CertificateRule | undefined;
}

/** The network and the newest block's number. */
export interface RecentView {
  view: SettledView;
  head: number;
}

/** Runs a check on what the chain said lately and, before it refuses, on what it says now. @throws what `judge` throws, RPC_* */
export async function withRecent(
  network: Pick<Network, 'recent'>,
  judge: (recent: RecentView) => void,
): Promise<void> {
  try {
    judge(await network.recent());
  } catch (error) {
    if (!(error instanceof DstackError) || error.code.startsWith('RPC_')) throw error;
    // What is stale stays so, and anyone has any number of old requests to send.
    if (error.code === 'GOSSIP_STALE') throw error;
    judge(await network.recent('anew'));
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
  requireSigner(domain, message, message.node, 'GOSSIP_SIGNATURE');
}

/**
 * @param networkKey as the contract has it. It is zero before bootstrap; nothing recovers to zero, so nothing passes
 * @throws GOSSIP_SIGNATURE unless the network's key signed it
 */
export function checkAnswerSignature(domain: Domain, message: AnswerMessage, networkKey: Address): void {
  requireSigner(domain, message, networkKey, 'GOSSIP_SIGNATURE');
}

/** @throws GOSSIP_SIGNATURE unless the key that it announces signed it */
export function checkBootstrapSignature(domain: Domain, message: BootstrapPackage): void {
  requireSigner(domain, message, message.networkKey, 'GOSSIP_SIGNATURE');
}
