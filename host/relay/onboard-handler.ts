/**
 * When another node asks to join: find its request in the gossip, add collateral, hand it to this host's own node, and
 * gossip the answer. Whether the request deserves an answer is for the node to judge; this only saves it pointless work.
 */
import type {
  ContractLog,
  Effect,
  EventContext,
  EventHandler,
  Verdict,
} from '../../lib/framework/handler.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { networkTopics, parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import {
  AnswerMessageSchema,
  nodePaths,
  type RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { check, Strict } from '../../lib/protocol/schema.ts';
import type { CollateralDesk } from '../collateral/attach.ts';
import { type MessageLog, messageId } from '../gossip/message-log.ts';
import type { NodeClient } from '../node-client.ts';
import { checkAnswerSignature, checkNetwork } from './admission.ts';
import type { Network } from './network.ts';
import type { Records } from './records.ts';

export interface OnboardHandlerOptions {
  store: Store;
  network: Network;
  node: Pick<NodeClient, 'status'>;
  messages: MessageLog;
  records: Records;
  collateral: CollateralDesk;
  /** Whether a request (64 hex digits) is this host's own node's. */
  isOwn(requestHash: string): boolean;
  log: { info(fields: object, msg: string): void };
}

interface Registered {
  /** 64 hex digits. */
  requestHash: string;
}

/** Versions of a request that the node refused, by request and message. */
const RefusedSchema = Strict({});

export function onboardHandler(options: OnboardHandlerOptions): EventHandler<Registered> {
  const { network, node, messages, records, isOwn, log } = options;
  const refused = new Table(options.store, 'onboard/refused/', RefusedSchema);
  /** Which version of a request our node has in hand, and what exactly it was given. */
  const handed = new Map<string, { id: string; body: RequestMessage }>();
  /** When the state of a request that is not in the gossip was read last. */
  const lookedAt = new Map<string, number>();

  /** The versions of the request that the node has not refused yet. */
  const candidates = (hash: string) =>
    messages
      .about('request', hash)
      .filter((message) => refused.get(`${hash}/${messageId(message)}`) === undefined);

  return {
    name: 'onboard',
    topic: networkTopics.Registered,

    decode(log: ContractLog): Registered {
      const event = parseNetworkEvent(log);
      if (event?.name !== 'Registered')
        throw new DstackError('EVENT_UNEXPECTED', 'the log is not a Registered event');
      return { requestHash: event.requestHash.slice(2) };
    },

    async request({ requestHash }: Registered, context: EventContext): Promise<Verdict> {
      if (isOwn(requestHash)) return { kind: 'skip', reason: 'it is our own node’s request' };
      // Whoever registers requests without publishing them gets few looks at the chain out of us.
      if (
        candidates(requestHash).length === 0 &&
        Date.now() - (lookedAt.get(requestHash) ?? 0) < LOOK_EVERY_MS
      ) {
        return { kind: 'wait', reason: `request ${requestHash} has not arrived by gossip` };
      }
      const { state } = await network.request(requestHash);
      lookedAt.set(requestHash, Date.now());
      if (state === 'answered' || state === 'expired') {
        keep(requestHash);
        lookedAt.delete(requestHash);
        return { kind: 'skip', reason: `the request is ${state}` };
      }
      // The event may be ahead of the state that the endpoint serves, or its block was dropped.
      if (state === 'none') {
        return context.age > FORGOTTEN_AFTER_MS
          ? { kind: 'skip', reason: 'the request is not on chain any more' }
          : { kind: 'wait', reason: 'the request is not on chain yet' };
      }
      keep(requestHash);
      if (messages.about('answer', requestHash).length > 0) {
        return { kind: 'skip', reason: 'another node has answered' };
      }
      const message = candidates(requestHash)[0];
      if (message === undefined)
        return { kind: 'wait', reason: `request ${requestHash} has not arrived by gossip` };
      const status = await node.status();
      if (status.state !== 'joined')
        return { kind: 'wait', reason: `our own node is ${status.state}, not joined` };
      const body = await judgeable(message, requestHash);
      handed.set(requestHash, { id: messageId(message), body });
      log.info({ request: `0x${requestHash}`, node: message.node }, 'handing a request to our own node');
      return { kind: 'request', path: nodePaths.onboard, body };
    },

    async settle(response: unknown, { requestHash }: Registered): Promise<Effect[]> {
      const message = check(AnswerMessageSchema, response, 'NODE_ANSWER', "the node's answer");
      checkNetwork(network.domain, message);
      if (message.requestHash !== requestHash) {
        throw new DstackError(
          'NODE_ANSWER',
          `the node answered ${message.requestHash}, it was asked about ${requestHash}`,
        );
      }
      checkAnswerSignature(network.domain, message, (await network.recent()).view.networkKey);
      // With the very collateral that it was judged by.
      const judged = handed.get(requestHash);
      if (judged !== undefined) records.keep(judged.body);
      handed.delete(requestHash);
      lookedAt.delete(requestHash);
      log.info({ request: `0x${requestHash}`, node: message.node }, 'our own node answered a request');
      return [{ kind: 'gossip', message }];
    },

    async refused({ requestHash }: Registered, error: DstackError): Promise<boolean> {
      const id = handed.get(requestHash)?.id;
      if (id === undefined || codeOf(error) === 'NODE_ANSWER') return false;
      // A relay on the way may have changed bytes that the request's hash does not cover: another version may be good.
      refused.put(`${requestHash}/${id}`, {});
      return candidates(requestHash).length > 0;
    },
  };

  /** The request with collateral: ours, or what any version of it brought. */
  async function judgeable(message: RequestMessage, requestHash: string): Promise<RequestMessage> {
    const brought = [message, ...messages.about('request', requestHash)].flatMap(
      ({ collateral }) => collateral ?? [],
    );
    const collateral = await options.collateral.forQuote(message.quote, brought);
    return collateral === undefined ? message : { ...message, collateral };
  }

  /** What is on chain is kept for ever. */
  function keep(requestHash: string): void {
    messages.keep(requestHash);
    for (const message of messages.about('request', requestHash)) records.keep(message);
    for (const message of messages.about('answer', requestHash)) records.keep(message);
  }
}

/** Milliseconds between looks at the state of a request that is on chain but not in the gossip. */
const LOOK_EVERY_MS = 15_000;

/** Milliseconds after which an event whose request is not on chain is taken for one of a dropped block. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;
