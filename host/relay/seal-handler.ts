/**
 * When an answer to another node's request is on chain: have this host's own node seal the secret to it, and gossip the
 * bytes. Every node makes the same ones, so whichever relay is first will do, and the node that answered may be gone.
 * Whether the chain shows enough is for the node to judge, by its own confirmation rule.
 */
import type { Log } from '../../lib/daemon/log.ts';
import type { Effect, EventContext, UnreadBlock, Verdict } from '../../lib/framework/handler.ts';
import type { ContractHandler } from '../../lib/framework/host/host.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { chainHex, type Hex } from '../../lib/protocol/hex.ts';
import { nodePaths, SealedMessageSchema } from '../../lib/protocol/onboarding-messages.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { NodeClient } from '../node-client.ts';
import { checkNetwork } from './admission.ts';
import { Alarms, type AnswerTurns } from './answer-turns.ts';
import { answerKind } from './kinds/answer.ts';
import { requestKind } from './kinds/request.ts';
import { sealedKind } from './kinds/sealed.ts';
import { hashOfSealed, isSealedOnChain, type Network } from './network.ts';
import type { NodeCount } from './node-count.ts';
import { BUSY, patienceFor } from './patience.ts';
import { OWN_REQUEST, onEvent, type RequestEvent, unlessJoined } from './request-events.ts';

export interface SealHandlerOptions {
  network: Pick<Network, 'domain' | 'foresee' | 'recent' | 'request'>;
  node: Pick<NodeClient, 'status'>;
  messages: Pick<MessageLog, 'about' | 'keep' | 'seek' | 'subjects'>;
  /** Whether a request (64 hex digits) is this host's own node's. */
  isOwn(requestHash: Hex): boolean;
  nodeCount: Pick<NodeCount, 'has' | 'saw'>;
  /** When it is this relay's turn. */
  turns: Pick<AnswerTurns, 'delay'>;
  /** Has an event that was set aside for a request looked at again. */
  wake(requestHash: Hex): void;
  log: Log<'info'>;
}

/** Finality takes up to a quarter of an hour. A node that still lacks the secret after this has made a new request. */
const GIVEN_UP_AFTER_MS = 60 * 60_000;

/** Blocks after which an event is of no use to anyone who has not come to it. */
const REORG_BLOCKS = 64;

const sealPlace = (requestHash: Hex): Hex => toHex(sha256(utf8(`dstack/seal ${requestHash}`)));

export function sealHandler({
  network,
  node,
  messages,
  isOwn,
  nodeCount,
  turns,
  wake,
  log,
}: SealHandlerOptions): ContractHandler<RequestEvent> {
  const alarms = new Alarms(wake);

  /** Whether the bytes are here that an answer signed by the network's key names. Every node signs the same: the contract has no other. */
  function hasSealedAnswer(requestHash: Hex): boolean {
    const answers = messages.about(answerKind, requestHash).map(({ answerHash }) => answerHash);
    return messages.about(sealedKind, requestHash).some((message) => answers.includes(hashOfSealed(message)));
  }

  /** Whether there is something to seal to, or that may be what was sealed. */
  function isKnown(requestHash: Hex): boolean {
    return [requestKind, sealedKind].some((kind) => messages.subjects(kind).has(requestHash));
  }

  return {
    name: 'seal',
    ...onEvent('Onboarded', network.domain),

    async patience(unread: UnreadBlock): Promise<number> {
      const [requests, sealed] = [messages.subjects(requestKind), messages.subjects(sealedKind)];
      if (requests.size > BUSY) return 0;
      const about = [...requests].filter((hash) => !nodeCount.has(hash));
      const { requestWindow } = (await network.recent()).view;
      return patienceFor(unread, requestWindow, about, (hash) => {
        if (isOwn(hash)) return 0;
        return sealed.has(hash) ? Number.POSITIVE_INFINITY : turns.delay(sealPlace(hash), requestWindow);
      });
    },

    foresee(events: readonly RequestEvent[]): void {
      const sealed = messages.subjects(sealedKind);
      const hashes = events.map(({ requestHash }) => requestHash);
      network.foresee(hashes.filter((hash) => !isOwn(hash) && !sealed.has(hash)));
    },

    async request({ requestHash }: RequestEvent, { age, log: event }: EventContext): Promise<Verdict> {
      // Whoever waits to see the answer on chain can look now.
      if (nodeCount.saw(requestHash)) wake(requestHash);
      if (isOwn(requestHash)) return OWN_REQUEST;
      if (age > GIVEN_UP_AFTER_MS) return { kind: 'skip', reason: 'the node has made a new request by now' };
      if (messages.about(sealedKind, requestHash).length === 0) {
        const { requestWindow } = (await network.recent()).view;
        // Another order than that of the answers: who is silent in the one is not first in the other too.
        const pause = turns.delay(sealPlace(requestHash), requestWindow) - age;
        if (pause > 0) {
          alarms.set(requestHash, pause);
          const until = event.blockNumber + requestWindow + REORG_BLOCKS;
          return {
            kind: 'park',
            key: requestHash,
            until,
            reason: 'its turn: other nodes can seal the secret too',
          };
        }
      }
      alarms.clear(requestHash);
      // Nothing can be done without, whoever says that it is on chain: it costs no look, and no place among what is worked on.
      if (!isKnown(requestHash)) {
        const { requestWindow } = (await network.recent()).view;
        const until = event.blockNumber + requestWindow + REORG_BLOCKS;
        messages.keep(requestHash, until);
        messages.seek(requestHash, until);
        return {
          kind: 'park',
          key: requestHash,
          until,
          reason: `request ${requestHash} has not arrived by gossip`,
        };
      }
      if (hasSealedAnswer(requestHash)) {
        messages.keep(requestHash);
        return { kind: 'skip', reason: 'another node has sealed the secret' };
      }
      const view = await network.request(requestHash);
      // The event may be ahead of the state that the endpoint serves, or its block was dropped.
      if (view.state !== 'answered') return { kind: 'wait', reason: 'the answer is not on chain any more' };
      messages.keep(requestHash);
      if (messages.about(sealedKind, requestHash).some((message) => isSealedOnChain(message, view))) {
        return { kind: 'skip', reason: 'another node has sealed the secret' };
      }
      const message = messages.about(requestKind, requestHash)[0];
      if (message === undefined) {
        messages.seek(requestHash);
        return { kind: 'wait', reason: `request ${requestHash} has not arrived by gossip` };
      }
      const waiting = await unlessJoined(node);
      if (waiting !== undefined) return waiting;
      // Any version of the request will do: what is sealed to is in its hash. The node judges no quote here.
      const { collateral: _, ...body } = message;
      return { kind: 'request', path: nodePaths.sealed, body };
    },

    async settle(response: unknown, { requestHash }: RequestEvent): Promise<Effect[]> {
      const message = check(SealedMessageSchema, response, 'NODE_ANSWER', "the node's sealed secret");
      checkNetwork(network.domain, message);
      if (
        message.requestHash !== requestHash ||
        !isSealedOnChain(message, await network.request(requestHash))
      ) {
        throw new DstackError(
          'NODE_ANSWER',
          `what the node sealed is not the answer to ${requestHash} on chain`,
        );
      }
      log.info({ request: chainHex(requestHash) }, 'our own node sealed the secret to another');
      return [{ kind: 'gossip', message }];
    },
  };
}
