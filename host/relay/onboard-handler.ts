/**
 * When another node asks to join: find its request in the gossip, add collateral, hand it to this host's own node, and
 * gossip the answer. Whether the request deserves an answer is for the node to judge; this only spares it pointless work.
 *
 * A copy of a request may differ from the genuine one in parts that the request's hash does not cover. So while the request
 * is open, a refusal of one copy is a reason to try another, or to wait for one; it never ends the matter. A few refusals
 * are about what the hash does cover; those do.
 */
import type { Log } from '../../lib/daemon/log.ts';
import type { Effect, EventContext, UnreadBlock, Verdict } from '../../lib/framework/handler.ts';
import type { ContractHandler } from '../../lib/framework/host/host.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { chainHex, type Hex } from '../../lib/protocol/hex.ts';
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
import { Alarms, type AnswerTurns } from './answer-turns.ts';
import type { Archive } from './archive.ts';
import { answerKind } from './kinds/answer.ts';
import { requestKind } from './kinds/request.ts';
import { sealedKind } from './kinds/sealed.ts';
import type { Network } from './network.ts';
import type { NodeCount } from './node-count.ts';
import { BUSY, patienceFor } from './patience.ts';
import { OWN_REQUEST, onEvent, type RequestEvent, unlessJoined } from './request-events.ts';

export interface OnboardHandlerOptions {
  store: Store;
  network: Network;
  node: Pick<NodeClient, 'status'>;
  messages: MessageLog;
  archive: Archive;
  collateral: Pick<CollateralDesk, 'forQuote'>;
  /** Whether a request (64 hex digits) is this host's own node's. */
  isOwn(requestHash: Hex): boolean;
  /** Told of each node that was onboarded. */
  nodeCount: Pick<NodeCount, 'has'>;
  /** When it is this relay's turn. */
  turns: Pick<AnswerTurns, 'delay' | 'answered' | 'saw'>;
  /** Has an event that was set aside for a request looked at again. */
  wake(requestHash: Hex): void;
  log: Log<'info'>;
}

/** What the node refused although the copy may be good with other collateral: by request and body. */
const RefusedSchema = Strict({});

/** The state of our node's work on a request. */
interface Work {
  /** What it is judging: the copy in the gossip, and exactly what it was given. */
  handed?: { copy: RequestMessage; body: RequestMessage };
  /** How often each copy was handed over: one that is refused for now must not delay the others. */
  tries: Map<string, number>;
  /** What the node said of the last copy that it refused. */
  refusal?: string;
  /** When a copy was handed over last, Unix milliseconds. */
  handedAt?: number;
}

export function onboardHandler(options: OnboardHandlerOptions): ContractHandler<RequestEvent> {
  const { network, node, messages, archive, isOwn, turns, log } = options;
  const refused = new Table(options.store, 'onboard/refused/', RefusedSchema);
  const works = new Map<string, Work>();
  const alarms = new Alarms(options.wake);

  /** What to hand over next: each copy in turn, in order of arrival, with collateral. */
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

  /** Nothing more has to be done about it. */
  function end(hash: Hex): void {
    alarms.clear(hash);
    works.delete(hash);
    for (const { key } of options.store.list(`${refused.prefix}${hash}/`)) options.store.delete(key);
  }

  return {
    name: 'onboard',
    ...onEvent('Registered', network.domain),

    async patience(unread: UnreadBlock): Promise<number> {
      const [requests, answers] = [messages.subjects(requestKind), messages.subjects(answerKind)];
      if (requests.size > BUSY) return 0;
      const about = [...new Set([...requests, ...answers])].filter((hash) => !messages.isKept(hash));
      const { view, head } = await network.recent();
      turns.saw(head);
      return patienceFor(unread, view.requestWindow, about, (hash) => {
        if (isOwn(hash)) return 0;
        return answers.has(hash) ? Number.POSITIVE_INFINITY : turns.delay(hash, view.requestWindow);
      });
    },

    foresee(events: readonly RequestEvent[]): void {
      const hashes = events.map(({ requestHash }) => requestHash);
      network.foresee(hashes.filter((hash) => !isOwn(hash) && isKnown(hash)));
    },

    async request({ requestHash }: RequestEvent, context: EventContext): Promise<Verdict> {
      if (isOwn(requestHash)) {
        messages.keep(requestHash, await lastUseOf(context));
        return OWN_REQUEST;
      }
      if (!isKnown(requestHash)) return park(requestHash, context);
      // Nor must those that another node has answered, until there is a sign that the answer is on chain.
      const isAnswered = await hasGoodAnswer(requestHash);
      const isSettled =
        options.nodeCount.has(requestHash) || messages.about(sealedKind, requestHash).length > 0;
      if (isAnswered && !isSettled)
        return park(requestHash, context, 'another node has answered; the contract does not show it yet');
      // Signed by the network's key, and on chain by the event or by what nodes seal only then: there is nothing to look for. Should its block
      // be dropped, the answer is still there for whoever pays for it again.
      if (isAnswered) return answered(requestHash, context);
      const pause = isAnswered ? 0 : await untilTurn(requestHash, context);
      if (pause > 0) {
        alarms.set(requestHash, pause);
        return park(requestHash, context, 'its turn: other nodes can answer too');
      }
      const { state } = (await isOpenSurely(requestHash, context))
        ? { state: 'open' as const }
        : await network.request(requestHash);
      if (state === 'answered') return answered(requestHash, context);
      // A re-org may still bring an answer.
      if (state === 'expired') return park(requestHash, context, 'the request is expired');
      // The event may be ahead of the state that the endpoint serves, or its block was dropped.
      if (state === 'none') {
        if (context.age <= FORGOTTEN_AFTER_MS)
          return { kind: 'wait', reason: 'the request is not on chain yet' };
        end(requestHash);
        return { kind: 'skip', reason: 'the request is not on chain any more' };
      }
      keep(requestHash, await lastUseOf(context));
      const handed = await next(requestHash);
      if (handed === undefined) return park(requestHash, context);
      const waiting = await unlessJoined(node);
      if (waiting !== undefined) return waiting;
      // Another look at the event may be handing over another copy by now.
      context.signal?.throwIfAborted();
      const work = workOn(requestHash);
      const id = messageId(handed.copy);
      work.handed = handed;
      work.handedAt = Date.now();
      work.tries.set(id, (work.tries.get(id) ?? 0) + 1);
      log.info(
        { request: chainHex(requestHash), node: handed.copy.node },
        'handing a request to our own node',
      );
      return { kind: 'request', path: nodePaths.onboard, body: handed.body };
    },

    async settle(response: unknown, { requestHash }: RequestEvent): Promise<Effect[]> {
      const message = check(AnswerMessageSchema, response, 'NODE_ANSWER', "the node's answer");
      checkNetwork(network.domain, message);
      if (message.requestHash !== requestHash) {
        throw new DstackError(
          'NODE_ANSWER',
          `the node answered ${message.requestHash}, it was asked about ${requestHash}`,
        );
      }
      checkAnswerSignature(network.domain, message, (await network.recent()).view.networkKey);
      // With exactly the collateral by which it was judged.
      const { handed: judged, handedAt } = workOn(requestHash);
      if (handedAt !== undefined) turns.answered(Date.now() - handedAt);
      if (judged !== undefined) archive.keep(judged.body);
      end(requestHash);
      log.info({ request: chainHex(requestHash), node: message.node }, 'our own node answered a request');
      return [{ kind: 'gossip', message }];
    },

    async refused({ requestHash }: RequestEvent, error: DstackError): Promise<boolean> {
      const work = works.get(requestHash);
      const handed = work?.handed;
      if (error instanceof Retryable) {
        if (work === undefined || handed === undefined) return false;
        delete work.handed;
        messages.tried(messageId(handed.copy));
        // A copy that is refused for now waits for its turn; one that was never tried goes first.
        return messages
          .about(requestKind, requestHash)
          .some((copy) => work.tries.get(messageId(copy)) === undefined);
      }
      if (work === undefined || handed === undefined || isFinal(codeOf(error))) {
        end(requestHash);
        return false;
      }
      const { copy, body } = handed;
      // With collateral other than what we added, the copy itself may be good.
      if (body !== copy) refused.put(`${requestHash}/${messageId(body)}`, {});
      if (body === copy || isOfQuote(codeOf(error))) {
        messages.refuse(messageId(copy));
        work.tries.delete(messageId(copy));
      }
      delete work.handed;
      work.refusal = `${codeOf(error)}: ${error.message}`;
      return true;
    },

    over({ requestHash }: RequestEvent): void {
      end(requestHash);
      messages.forget(requestHash);
    },
  };

  async function answered(requestHash: Hex, context: EventContext): Promise<Verdict> {
    keep(requestHash, await lastUseOf(context));
    await keepJudged(requestHash);
    end(requestHash);
    return { kind: 'skip', reason: 'the request is answered' };
  }

  /** What is handed over for the first time need not be asked for where the blocks since the event say that it is open; the node looks for itself. */
  async function isOpenSurely(hash: Hex, { log: event }: EventContext): Promise<boolean> {
    if ((works.get(hash)?.tries.size ?? 0) > 0 || options.nodeCount.has(hash)) return false;
    return network.isOpenSince(event);
  }

  /** Requests that are registered but not published must not cost us calls to the chain. */
  function isKnown(hash: Hex): boolean {
    return messages.about(requestKind, hash).length + messages.about(answerKind, hash).length > 0;
  }

  /** Waits until a copy arrives that was not tried yet, or the request's window is over for good. */
  async function park(requestHash: Hex, context: EventContext, reason?: string): Promise<Verdict> {
    const until = await lastUseOf(context);
    // An event says that it is on chain: reason enough for room, if for nothing else. It may have had to make some already.
    messages.keep(requestHash, until);
    if (reason === undefined) messages.seek(requestHash, until);
    const refusal = works.get(requestHash)?.refusal;
    const missing =
      refusal === undefined
        ? `request ${requestHash} has not arrived by gossip`
        : `another copy of request ${requestHash}: the node refused the last with ${refusal}`;
    return { kind: 'park', key: requestHash, until, reason: reason ?? missing };
  }

  /** Whether a node of the network has answered, as far as gossip knows. */
  async function hasGoodAnswer(requestHash: Hex): Promise<boolean> {
    const answers = messages.about(answerKind, requestHash);
    if (answers.length === 0) return false;
    const { networkKey } = (await network.recent()).view;
    return answers.some((answer) => {
      try {
        checkAnswerSignature(network.domain, answer, networkKey);
        return true;
      } catch {
        return false;
      }
    });
  }

  /** Milliseconds until this relay's turn; none after a copy was handed over. */
  async function untilTurn(requestHash: Hex, { age }: EventContext): Promise<number> {
    if ((works.get(requestHash)?.tries.size ?? 0) > 0) return 0;
    const { view, head } = await network.recent();
    turns.saw(head);
    return turns.delay(requestHash, view.requestWindow) - age;
  }

  /** The last block at which messages about a request are of use. */
  async function lastUseOf({ log }: EventContext): Promise<number> {
    return log.blockNumber + (await network.recent()).view.requestWindow + REORG_BLOCKS;
  }

  /** The request with collateral: ours, or what came with any version of it. */
  async function judgeable(message: RequestMessage, requestHash: Hex): Promise<RequestMessage> {
    const brought = [message, ...messages.about(requestKind, requestHash)].flatMap(
      ({ collateral }) => collateral ?? [],
    );
    const collateral = await options.collateral.forQuote(message.quote, brought);
    return collateral === undefined ? message : { ...message, collateral };
  }

  /** What is on chain is no longer evicted like what anyone may send. An answer is signed by the network's key, and archived. */
  function keep(requestHash: Hex, until: number): void {
    messages.keep(requestHash, until);
    for (const message of messages.about(answerKind, requestHash)) archive.keep(message);
  }

  /**
   * Of an answered request one version is archived: the one that our node judged or, when another node answered, the one that
   * we would have handed to ours. Not a copy as it arrived: with genuine but outdated collateral, or without any, an audit
   * would refuse a request that was good.
   */
  async function keepJudged(requestHash: Hex): Promise<void> {
    if (archive.hasRequest(requestHash)) return;
    const [copy] = messages.about(requestKind, requestHash);
    if (copy !== undefined) archive.keep(await judgeable(copy, requestHash));
  }
}

/**
 * Refusals of the request itself, whichever the copy: about what the request's hash covers (through the quote's hash, the
 * quote's body too), about the chain's state, and errors in our own node's replies.
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

/** Errors in a copy's own quote or signature, which no collateral can mend. */
const isOfQuote = (code: string): boolean =>
  /^(QUOTE_|QE_REPORT_|PCK_CHAIN_)/.test(code) || code === 'REQUEST_SIGNATURE';

/** Blocks after which no re-org undoes the end of a request's window. */
const REORG_BLOCKS = 64;

/** Milliseconds after which an event whose request is not on chain is taken to be from a dropped block. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;
