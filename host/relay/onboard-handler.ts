/**
 * When another node asks to join: find its request in the gossip, add collateral, hand it to this host's own node, and
 * gossip the answer. Whether the request deserves an answer is for the node to judge; this only saves it pointless work.
 *
 * A copy of a request may differ from the genuine one in what the request's hash does not cover. So while the request is
 * open, the node's refusal of a copy is a reason to try another one, or to wait for one, and never the end; a few
 * refusals speak of what the hash does cover, and are.
 */
import type { Log } from '../../lib/daemon/log.ts';
import type {
  ContractLog,
  Effect,
  EventContext,
  EventHandler,
  Verdict,
} from '../../lib/framework/handler.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { bareHex, chainHex, type Hex } from '../../lib/protocol/hex.ts';
import { networkTopics, parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import {
  AnswerMessageSchema,
  nodePaths,
  type RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { check, Strict } from '../../lib/protocol/schema.ts';
import type { CollateralDesk } from '../collateral/attach.ts';
import { messageId } from '../gossip/message-kind.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { NodeClient } from '../node-client.ts';
import { checkAnswerSignature, checkNetwork } from './admission.ts';
import type { Archive } from './archive.ts';
import { answerKind } from './kinds/answer.ts';
import { requestKind } from './kinds/request.ts';
import type { Network } from './network.ts';

export interface OnboardHandlerOptions {
  store: Store;
  network: Network;
  node: Pick<NodeClient, 'status'>;
  messages: MessageLog;
  archive: Archive;
  collateral: CollateralDesk;
  /** Whether a request (64 hex digits) is this host's own node's. */
  isOwn(requestHash: Hex): boolean;
  log: Log<'info'>;
}

interface Registered {
  /** 64 hex digits. */
  requestHash: Hex;
}

/** What was handed to the node and refused, though the copy may be good with other collateral: by request and body. */
const RefusedSchema = Strict({});

/** Where our node stands with a request. */
interface Work {
  /** What it has in hand: the copy in the gossip, and what exactly it was given. */
  handed?: { copy: RequestMessage; body: RequestMessage };
  /** How often each copy was handed over: one that is refused for now must not hold up the others. */
  tries: Map<string, number>;
  /** What the node said of the last copy that it refused. */
  refusal?: string;
}

export function onboardHandler(options: OnboardHandlerOptions): EventHandler<Registered> {
  const { network, node, messages, archive, isOwn, log } = options;
  const refused = new Table(options.store, 'onboard/refused/', RefusedSchema);
  const works = new Map<string, Work>();

  /** What to hand over next: the copies in turns, in the order in which they came, with collateral. */
  async function next(hash: Hex): Promise<Work['handed']> {
    const { tries } = workOn(hash);
    const copies = messages
      .about(requestKind, hash)
      .map((copy) => ({ copy, tried: tries.get(messageId(copy)) ?? 0 }))
      .toSorted((a, b) => a.tried - b.tried);
    for (const { copy } of copies) {
      const body = await judgeable(copy, hash);
      if (refused.get(`${hash}/${messageId(body)}`) === undefined) return { copy, body };
    }
    return undefined;
  }

  function workOn(hash: Hex): Work {
    const work = works.get(hash) ?? { tries: new Map() };
    works.set(hash, work);
    return work;
  }

  /** Nothing more is to be done about it. */
  function end(hash: Hex): void {
    works.delete(hash);
    for (const { key } of options.store.list(`${refused.prefix}${hash}/`)) options.store.delete(key);
  }

  return {
    name: 'onboard',
    topic: networkTopics.Registered,

    decode(log: ContractLog): Registered {
      const event = parseNetworkEvent(log);
      if (event?.name !== 'Registered')
        throw new DstackError('EVENT_UNEXPECTED', 'the log is not a Registered event');
      return { requestHash: bareHex(event.requestHash) };
    },

    async request({ requestHash }: Registered, context: EventContext): Promise<Verdict> {
      if (isOwn(requestHash)) return { kind: 'skip', reason: "it is our own node's request" };
      // Whoever registers requests without publishing them gets no look at the chain out of us.
      const isKnown =
        messages.about(requestKind, requestHash).length + messages.about(answerKind, requestHash).length > 0;
      if (!isKnown) return park(requestHash, context);
      const { state } = await network.request(requestHash);
      if (state === 'answered') {
        keep(requestHash);
        await keepJudged(requestHash);
        end(requestHash);
        return { kind: 'skip', reason: 'the request is answered' };
      }
      // A re-org may still bring an answer.
      if (state === 'expired') return park(requestHash, context, 'the request is expired');
      // The event may be ahead of the state that the endpoint serves, or its block was dropped.
      if (state === 'none') {
        if (context.age <= FORGOTTEN_AFTER_MS)
          return { kind: 'wait', reason: 'the request is not on chain yet' };
        end(requestHash);
        return { kind: 'skip', reason: 'the request is not on chain any more' };
      }
      keep(requestHash);
      if (messages.about(answerKind, requestHash).length > 0) {
        return { kind: 'wait', reason: 'another node has answered; the contract does not show it yet' };
      }
      const handed = await next(requestHash);
      if (handed === undefined) return park(requestHash, context);
      const status = await node.status();
      if (status.state !== 'joined')
        return { kind: 'wait', reason: `our own node is ${status.state}, not joined` };
      const work = workOn(requestHash);
      const id = messageId(handed.copy);
      work.handed = handed;
      work.tries.set(id, (work.tries.get(id) ?? 0) + 1);
      log.info(
        { request: chainHex(requestHash), node: handed.copy.node },
        'handing a request to our own node',
      );
      return { kind: 'request', path: nodePaths.onboard, body: handed.body };
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
      const judged = works.get(requestHash)?.handed;
      if (judged !== undefined) archive.keep(judged.body);
      end(requestHash);
      log.info({ request: chainHex(requestHash), node: message.node }, 'our own node answered a request');
      return [{ kind: 'gossip', message }];
    },

    async refused({ requestHash }: Registered, error: DstackError): Promise<boolean> {
      const work = works.get(requestHash);
      const handed = work?.handed;
      if (error instanceof Retryable) {
        if (work === undefined || handed === undefined) return false;
        delete work.handed;
        messages.tried(messageId(handed.copy));
        // What is only refused for now waits for its turn; one that was not tried at all does not.
        return messages
          .about(requestKind, requestHash)
          .some((copy) => work.tries.get(messageId(copy)) === undefined);
      }
      if (work === undefined || handed === undefined || isFinal(codeOf(error))) {
        end(requestHash);
        return false;
      }
      const { copy, body } = handed;
      // With other collateral than what we added, the copy itself may be good.
      if (body !== copy) refused.put(`${requestHash}/${messageId(body)}`, {});
      if (body === copy || isOfQuote(codeOf(error))) {
        messages.refuse(messageId(copy));
        work.tries.delete(messageId(copy));
      }
      delete work.handed;
      work.refusal = `${codeOf(error)}: ${error.message}`;
      return true;
    },

    over({ requestHash }: Registered): void {
      end(requestHash);
      messages.forget(requestHash);
    },
  };

  /** Until a copy comes that was not tried yet, or the request's window is over for good. */
  async function park(requestHash: Hex, { log }: EventContext, reason?: string): Promise<Verdict> {
    const { requestWindow } = (await network.recent()).view;
    const refusal = works.get(requestHash)?.refusal;
    const missing =
      refusal === undefined
        ? `request ${requestHash} has not arrived by gossip`
        : `another copy of request ${requestHash}: the node refused the last with ${refusal}`;
    const until = log.blockNumber + requestWindow + REORG_BLOCKS;
    return { kind: 'park', key: requestHash, until, reason: reason ?? missing };
  }

  /** The request with collateral: ours, or what any version of it brought. */
  async function judgeable(message: RequestMessage, requestHash: Hex): Promise<RequestMessage> {
    const brought = [message, ...messages.about(requestKind, requestHash)].flatMap(
      ({ collateral }) => collateral ?? [],
    );
    const collateral = await options.collateral.forQuote(message.quote, brought);
    return collateral === undefined ? message : { ...message, collateral };
  }

  /** What is on chain is no longer evicted as what anyone may send. An answer is by the network's key, and kept for ever. */
  function keep(requestHash: Hex): void {
    messages.keep(requestHash);
    for (const message of messages.about(answerKind, requestHash)) archive.keep(message);
  }

  /**
   * Of an answered request one version is kept for ever: the one that our node judged, or else, when another node has
   * answered, what we would have handed to ours. Not a copy as it came: collateral that is genuine but out of date, or none,
   * would have an audit refuse a request that was good.
   */
  async function keepJudged(requestHash: Hex): Promise<void> {
    if (archive.hasRequest(requestHash)) return;
    const [copy] = messages.about(requestKind, requestHash);
    if (copy !== undefined) archive.keep(await judgeable(copy, requestHash));
  }
}

/**
 * Refusals of the request itself, whatever the copy: the node's word on what the request's hash covers (by the quote's
 * hash, the quote's body too), on the chain's state, and faults in what our own node says.
 */
const isFinal = (code: string): boolean => FINAL.has(code) || code.startsWith('TD_');
const FINAL: ReadonlySet<string> = new Set([
  'REQUEST_OTHER_NETWORK',
  'REQUEST_OTHER_NODE',
  'REQUEST_EXPIRED',
  'KEY_SUPERSEDED',
  'RTMR3_MISMATCH',
  'REPORT_DATA_MISMATCH',
  'NODE_ANSWER',
  'NODE_REPLY',
  'GOSSIP_OTHER_NETWORK',
  'GOSSIP_SIGNATURE',
]);

/** Faults in a copy's own quote or signature, which no collateral mends. */
const isOfQuote = (code: string): boolean =>
  /^(QUOTE_|QE_REPORT_|PCK_CHAIN_)/.test(code) || code === 'REQUEST_SIGNATURE';

/** Blocks after which the end of a request's window is not taken back by a re-org. */
const REORG_BLOCKS = 64;

/** Milliseconds after which an event whose request is not on chain is taken for one of a dropped block. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;
