/** Messages for the gossip's tests: of the right form, with no meaning. What they mean is for the kinds' checks to judge. */

import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { chainHex, type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import type { AnswerMessage, RequestMessage, SealedMessage } from '../../lib/protocol/onboarding-messages.ts';
import { answerKind } from '../relay/kinds/answer.ts';
import { requestKind } from '../relay/kinds/request.ts';
import { sealedKind } from '../relay/kinds/sealed.ts';
import { type Message, type MessageKind, MessageKinds } from './message-kind.ts';

/** The relay's kinds, with one check for all in place of theirs. */
export const someKinds = (
  admit: (message: Message) => Promise<Message> = async (message) => message,
): readonly MessageKind[] =>
  [requestKind, answerKind, sealedKind].map((kind) => ({ ...kind, admit }) as MessageKind);

export const registered = new MessageKinds(someKinds());

const hex = (n: number, bytes: number): Hex => parseHex(n.toString(16).padStart(bytes * 2, '0'));
const signature = { r: chainHex(hex(1, 32)), vs: chainHex(hex(1, 32)) };
const contract = parseAddress(`0x${hex(1, 20)}`);

/** Requests with the same `n` are about the same thing; `quote` makes another version of one. */
export function someRequest(n: number, quote = '00'): RequestMessage {
  return {
    type: 'request',
    chainId: 1,
    contract,
    node: parseAddress(`0x${hex(n, 20)}`),
    kemPublicKey: hex(n, 1216),
    config: hex(1, 32),
    epoch: 1,
    blockNumber: 1,
    blockHash: hex(1, 32),
    quote: parseHex(quote),
    quoteHash: hex(1, 32),
    signature,
  };
}

/** What every answer here names. */
const SEALED = hex(1, 1168);

export function someSealed(requestHash: Hex): SealedMessage {
  return { type: 'sealed', chainId: 1, contract, requestHash, sealed: SEALED };
}

export function someAnswer(requestHash: Hex): AnswerMessage {
  return {
    type: 'answer',
    chainId: 1,
    contract,
    node: contract,
    requestHash,
    answerHash: toHex(sha256(fromHex(SEALED))),
    measurement: hex(1, 32),
    config: hex(1, 32),
    platform: hex(1, 32),
    signature,
  };
}

/** The `n` of a request; 0 for what names no node. */
export const numberOf = (message: Message): number =>
  'node' in message ? Number(BigInt(String(message.node))) : 0;
