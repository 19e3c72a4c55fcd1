/** What `onboard` is posted with: kept when the network's key signed it. */
import { type AnswerMessage, AnswerMessageSchema } from '../../../lib/protocol/onboarding-messages.ts';
import type { MessageKind } from '../../gossip/message-kind.ts';
import { type Admission, checkAnswerSignature, checkNetwork, withRecent } from '../admission.ts';

export const answerKind: MessageKind<AnswerMessage, Admission> = {
  type: 'answer',
  schema: AnswerMessageSchema,
  subjectOf: ({ requestHash }) => requestHash,
  // Not a signature: it may be of the network's key of before.
  faultCodes: ['GOSSIP_OTHER_NETWORK'],

  /** @throws GOSSIP_OTHER_NETWORK, GOSSIP_SIGNATURE; Retryable RPC_* */
  async admit(message, { network }) {
    checkNetwork(network.domain, message);
    await withRecent(network, ({ view }) => checkAnswerSignature(network.domain, message, view.networkKey));
    return message;
  },
};
