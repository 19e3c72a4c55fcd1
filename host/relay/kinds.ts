/** The kinds of message that relays gossip. A new one is a file in kinds/, and a line here. */
import type { Message, MessageKind } from '../gossip/message-kind.ts';
import type { Admission } from './admission.ts';
import { answerKind } from './kinds/answer.ts';
import { certificateKind } from './kinds/certificate.ts';
import { requestKind } from './kinds/request.ts';
import { sealedKind } from './kinds/sealed.ts';

export const relayKinds: readonly MessageKind<Message, Admission>[] = [
  requestKind,
  answerKind,
  sealedKind,
  certificateKind,
];
