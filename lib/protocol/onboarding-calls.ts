/** The transactions that carry the messages of onboarding to the contract, as calldata. */
import { to0x } from './encoding.ts';
import { encodeOnboard, encodeRegister } from './network-contract.ts';
import { type AnswerMessage, type RequestMessage, requestOf } from './onboarding-messages.ts';

/** `register` of a request. The contract takes the hash of the KEM key, and computes the request's hash itself. */
export function registerCall(message: RequestMessage): string {
  return encodeRegister({
    node: message.node,
    kemKeyHash: to0x(requestOf(message).request.kemKeyHash),
    quoteHash: message.quoteHash,
    blockNumber: BigInt(message.blockNumber),
    config: message.config,
    ...message.signature,
  });
}

/** `onboard` with an answer. */
export function onboardCall(message: AnswerMessage): string {
  return encodeOnboard({
    requestHash: message.requestHash,
    measurement: message.measurement,
    config: message.config,
    platform: message.platform,
    answerHash: message.answerHash,
    ...message.signature,
  });
}
