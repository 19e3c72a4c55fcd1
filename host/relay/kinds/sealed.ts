/**
 * The sealed secret. It carries no signature: what vouches for it is an answer that the network's key signed over its
 * hash, or the contract, which is asked only about requests that were on chain.
 */
import { DstackError } from '../../../lib/protocol/errors.ts';
import { type SealedMessage, SealedMessageSchema } from '../../../lib/protocol/onboarding-messages.ts';
import type { MessageKind } from '../../gossip/message-kind.ts';
import { type Admission, checkNetwork } from '../admission.ts';
import { hashOfSealed, isSealedOnChain } from '../network.ts';
import { answerKind } from './answer.ts';

export const sealedKind: MessageKind<SealedMessage, Admission> = {
  type: 'sealed',
  schema: SealedMessageSchema,
  subjectOf: ({ requestHash }) => requestHash,
  // The answer may come by another way.
  earlyCodes: ['GOSSIP_SEALED'],
  faultCodes: ['GOSSIP_OTHER_NETWORK'],

  /** @throws GOSSIP_OTHER_NETWORK, GOSSIP_SEALED; Retryable RPC_* */
  async admit(message, { network, held }) {
    checkNetwork(network.domain, message);
    const { requestHash } = message;
    const hash = hashOfSealed(message);
    if (held.about(answerKind, requestHash).some(({ answerHash }) => answerHash === hash)) return message;
    if (held.isKept(requestHash) && isSealedOnChain(message, await network.request(requestHash)))
      return message;
    throw new DstackError(
      'GOSSIP_SEALED',
      `no answer to ${requestHash} is known that names these sealed bytes`,
    );
  },
};
