/**
 * "Give me the secret": kept when it is recent, signed by the very node that it names, and has a quote that was made for
 * it. What nobody could judge the quote by is left out.
 */
import { toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError, Retryable } from '../../../lib/protocol/errors.ts';
import {
  type RequestMessage,
  RequestMessageSchema,
  requestOf,
} from '../../../lib/protocol/onboarding-messages.ts';
import type { MessageKind } from '../../gossip/message-kind.ts';
import {
  type Admission,
  checkNetwork,
  checkRequestSignature,
  type RecentView,
  withRecent,
} from '../admission.ts';
import { withCheckedEvidence } from '../evidence.ts';

/** The chain knows the hashes of so many blocks; a request about an older one can't be registered any more. */
const BLOCK_HASHES = 256;

export const requestKind: MessageKind<RequestMessage, Admission> = {
  type: 'request',
  schema: RequestMessageSchema,
  hasSpareCopies: true,
  // The same for all platforms of one kind.
  sharedFields: ['collateral'],
  // Not a quote that is refused: a relay whose node is not there yet takes either root's.
  faultCodes: ['GOSSIP_OTHER_NETWORK', 'GOSSIP_SIGNATURE'],
  subjectOf: (message) => toHex(requestOf(message).hash),

  /** @throws GOSSIP_OTHER_NETWORK, GOSSIP_SIGNATURE, GOSSIP_STALE, GOSSIP_QUOTE; Retryable GOSSIP_AHEAD (our endpoint is behind the sender's) and RPC_* */
  async admit(message, { network, flavour }) {
    checkNetwork(network.domain, message);
    checkRequestSignature(network.domain, message);
    await withRecent(network, (recent) => checkIsRecent(message, recent));
    return withCheckedEvidence(message, flavour);
  },
};

function checkIsRecent(message: RequestMessage, { view, head }: RecentView): void {
  const about = `the request is about block ${message.blockNumber} in epoch ${message.epoch}; the chain is at block ${head} in epoch ${view.epoch}`;
  if (message.epoch > view.epoch || message.blockNumber > head + BLOCK_HASHES) {
    throw new Retryable('GOSSIP_AHEAD', about);
  }
  if (message.epoch < view.epoch || message.blockNumber < head - BLOCK_HASHES - view.requestWindow) {
    throw new DstackError('GOSSIP_STALE', about);
  }
}
