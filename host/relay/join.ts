/**
 * Brings this host's own node into the network. The node's state says what it needs; the relay carries bytes, and pays.
 *
 *   requesting:     ask it for its request; gossip it and post `register`; wait for an answer in the gossip; store it and
 *                   post `onboard`; when the contract shows that answer, nodes that have the secret give out the sealed
 *                   bytes: wait for them in the gossip, and hand them to the node
 *   bootstrapping:  store its bootstrap package as a file for the network's owner, who verifies and posts it
 *   joined:         nothing
 *
 * Every round starts from what the node and the chain say now, and everything it does may be repeated. So it survives a
 * crash of either at any point.
 */

import type { Log } from '../../lib/daemon/log.ts';
import type { TransactionRequest } from '../../lib/framework/handler.ts';
import type { ChainClient } from '../../lib/framework/host/chain-client.ts';
import { Rounds } from '../../lib/framework/rounds.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, chainHex, type Hex, sameAddress } from '../../lib/protocol/hex.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  AnswerMessageSchema,
  type NodeStatus,
  type RequestMessage,
  RequestMessageSchema,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import type { Publisher } from '../gossip/gossip.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { NodeClient } from '../node-client.ts';
import {
  checkAnswerSignature,
  checkBootstrapSignature,
  checkNetwork,
  checkRequestSignature,
} from './admission.ts';
import type { Archive } from './archive.ts';
import { answerKind } from './kinds/answer.ts';
import { sealedKind } from './kinds/sealed.ts';
import { isHashOnChain, isSealedOnChain, type Network, type RecentView } from './network.ts';

export interface JoinOptions {
  store: Store;
  node: Pick<NodeClient, 'status' | 'newRequest' | 'answer' | 'bootstrapPackage'>;
  network: Network;
  gossip: Publisher;
  messages: MessageLog;
  chain: Pick<ChainClient, 'sendTransaction' | 'transaction'>;
  archive: Archive;
  log: Log;
  /** At each look at a node that has joined; `isNew`: at the first of them. */
  whileJoined(isNew: boolean): Promise<void>;
  /** Milliseconds between rounds while joining. */
  pollInterval: number;
}

/** Where joining stands, for the operator. */
export interface JoinStatus {
  node: NodeStatus | undefined;
  /** One sentence: what the relay is waiting for. */
  waitingFor: string;
}

/** Once the node needs nothing, it is asked this much less often. */
const IDLE_FACTOR = 5;

export class Join {
  readonly #options: JoinOptions;
  /** Our node's requests, by hash: they are never ours to answer. */
  readonly #requests: Table<typeof RequestMessageSchema>;
  /** The answer that `onboard` was or will be posted for, by request hash. */
  readonly #answers: Table<typeof AnswerMessageSchema>;
  #status: JoinStatus = { node: undefined, waitingFor: 'the first look at the node' };
  #lastUseless = '';
  #open: { subject: Hex; message: RequestMessage } | undefined;
  readonly #rounds = new Rounds(() => this.#look());

  constructor(options: JoinOptions) {
    this.#options = options;
    this.#requests = new Table(options.store, 'join/request/', RequestMessageSchema);
    this.#answers = new Table(options.store, 'join/answer/', AnswerMessageSchema);
  }

  start(): void {
    this.#rounds.start();
  }

  async stop(): Promise<void> {
    await this.#rounds.stop();
  }

  /** Something changed: look again now. */
  wake(): void {
    this.#rounds.wake();
  }

  status(): JoinStatus {
    return this.#status;
  }

  /** The node's request while it is on chain and the node has not joined by it. */
  open(): { subject: Hex; message: RequestMessage } | undefined {
    return this.#open;
  }

  isOwn(requestHash: Hex): boolean {
    return this.#requests.get(requestHash) !== undefined;
  }

  async #look(): Promise<number> {
    let waitingFor: string;
    try {
      waitingFor = await this.#round();
    } catch (error) {
      waitingFor = `another try, because ${codeOf(error)}: ${(error as Error).message}`;
      if (codeOf(error) === 'NODE_UNREACHABLE') this.#status = { ...this.#status, node: undefined };
    }
    this.#tell(waitingFor);
    const idle = this.#status.node?.state === 'joined' || this.#status.node?.state === 'failed';
    return this.#options.pollInterval * (idle ? IDLE_FACTOR : 1);
  }

  /** Logs one line per change. */
  #tell(waitingFor: string): void {
    if (waitingFor === this.#status.waitingFor) return;
    const { log } = this.#options;
    const fields = { node: this.#status.node?.state ?? 'unknown' };
    if (waitingFor.startsWith('another try')) log.warn(fields, `waiting for ${waitingFor}`);
    else if (waitingFor !== '') log.info(fields, `waiting for ${waitingFor}`);
    this.#status = { ...this.#status, waitingFor };
  }

  /** Does what can be done now; returns what it waits for afterwards. */
  async #round(): Promise<string> {
    const { node, network, log } = this.#options;
    const status = await node.status();
    checkNetwork(network.domain, status);
    const before = this.#status.node?.state;
    this.#status = { ...this.#status, node: status };
    if (status.state !== 'requesting') this.#open = undefined;
    if (before !== status.state)
      log.info({ node: status.state, code: status.code }, `the node is ${status.state}`);
    switch (status.state) {
      case 'starting':
        return `the node to start${because(status)}`;
      case 'failed':
        return `the operator: the node failed${because(status)}`;
      case 'joined':
        await this.#options.whileJoined(before !== 'joined');
        return '';
      case 'bootstrapping':
        return this.#bootstrap();
      case 'requesting':
        return this.#request();
    }
  }

  async #bootstrap(): Promise<string> {
    const { node, network, archive, log } = this.#options;
    const found = await node.bootstrapPackage();
    checkNetwork(network.domain, found);
    checkBootstrapSignature(network.domain, found);
    const path = archive.keepBootstrap(found);
    const waitingFor = `the owner to run: npx dstack network bootstrap ${path}`;
    if (this.#status.waitingFor !== waitingFor) {
      log.info({ networkKey: found.networkKey, path }, 'the bootstrap package is ready');
    }
    return waitingFor;
  }

  async #request(): Promise<string> {
    const { view } = await this.#options.network.recent();
    if (view.epoch === 0) return "the network's bootstrap: it has no secret to share yet";
    const message = await this.#options.node.newRequest();
    const hash = this.#remember(message);
    const onChain = await this.#options.network.request(hash);
    const isOpen = onChain.state === 'open' || onChain.state === 'answered';
    this.#open = isOpen ? { subject: hash, message } : undefined;
    switch (onChain.state) {
      case 'none':
        return this.#register(message, hash);
      case 'open':
        this.#options.messages.keep(hash);
        this.#options.archive.keep(message);
        // Again, for those who had no room for it or have lost it.
        await this.#options.gossip.publish(message);
        return this.#onboard(hash, view, onChain);
      case 'answered':
        return this.#deliver(message, hash, onChain);
      case 'expired':
        return `the node to make a new request: nobody answered ${chainHex(hash)} in time`;
    }
  }

  /** The node's own request, checked and stored before anyone else hears of it. */
  #remember(message: RequestMessage): Hex {
    const { network, log } = this.#options;
    checkNetwork(network.domain, message);
    checkRequestSignature(network.domain, message);
    const hash = toHex(requestOf(message).hash);
    if (this.#requests.get(hash) === undefined) {
      this.#requests.put(hash, message);
      log.info(
        { request: chainHex(hash), node: message.node, block: message.blockNumber },
        'the node made a request',
      );
    }
    return hash;
  }

  async #register(message: RequestMessage, hash: Hex): Promise<string> {
    const { gossip, network } = this.#options;
    await gossip.publish(message);
    const { failure, note } = await this.#send(network.register(message));
    if (failure !== undefined) return `a new request: register of ${chainHex(hash)} failed: ${failure}`;
    return `register of ${chainHex(hash)} to be mined${note}`;
  }

  async #onboard(hash: Hex, view: RecentView, onChain: RequestView): Promise<string> {
    const { network, archive, log } = this.#options;
    const stored = this.#answers.get(hash);
    const answer = stored ?? this.#goodAnswer(hash, onChain.node, view.networkKey);
    if (answer === undefined)
      return `an answer to ${chainHex(hash)}; it may come until block ${onChain.expiresAfter}`;
    if (stored === undefined) {
      // Stored before it is posted, so that what is on chain can be shown to have been signed, whatever gossip forgets.
      archive.keep(answer);
      this.#answers.put(hash, answer);
      log.info({ request: chainHex(hash) }, 'an answer arrived');
    }
    const { failure, note } = await this.#send(network.onboard(answer));
    if (failure !== undefined) return `${chainHex(hash)} to expire: onboard failed: ${failure}`;
    return `onboard of ${chainHex(hash)} to be mined${note}`;
  }

  /** @returns why it failed, or what there is to say of it while it has not */
  async #send(transaction: TransactionRequest): Promise<{ failure?: string; note: string }> {
    const { chain } = this.#options;
    await chain.sendTransaction(transaction);
    const { state, message, code } = (await chain.transaction(transaction.purpose)) ?? {};
    return {
      ...(state === 'failed' && { failure: String(message ?? code) }),
      note: message === undefined ? '' : ` (${message})`,
    };
  }

  /** The first answer in the gossip that the contract would take. */
  #goodAnswer(hash: Hex, requester: Address, networkKey: Address): AnswerMessage | undefined {
    const { network, messages, log } = this.#options;
    return messages.about(answerKind, hash).find((answer) => {
      try {
        checkNetwork(network.domain, answer);
        checkAnswerSignature(network.domain, answer, networkKey);
        if (sameAddress(answer.node, requester)) return true;
        throw new DstackError(
          'ANSWER_OTHER_NODE',
          `the answer names ${answer.node}, the request is by ${requester}`,
        );
      } catch (error) {
        const msg = `an answer cannot be used: ${(error as Error).message}`;
        if (this.#lastUseless !== msg) log.warn({ code: codeOf(error), request: chainHex(hash) }, msg);
        this.#lastUseless = msg;
        return false;
      }
    });
  }

  /** The contract has an answer: the node gets the bytes with that hash, whoever posted the answer and whoever sealed them. */
  async #deliver(message: RequestMessage, hash: Hex, onChain: RequestView): Promise<string> {
    const { node, gossip, messages, archive, log } = this.#options;
    // Marked here too, because a relay that was down while its request was open has not seen it on chain.
    messages.keep(hash);
    for (const answer of messages.about(answerKind, hash))
      if (isHashOnChain(answer.answerHash, onChain)) archive.keep(answer);
    const sealed = messages.about(sealedKind, hash).find((candidate) => isSealedOnChain(candidate, onChain));
    if (sealed === undefined) {
      // Whoever seals the secret needs it again; and somebody may have sealed it already.
      await gossip.publish(message);
      messages.seek(hash);
      return `the sealed secret for ${chainHex(hash)}, whose answer is on chain, to arrive by gossip`;
    }
    const status = await node.answer(sealed);
    this.#status = { ...this.#status, node: status };
    if (status.state !== 'joined') return `the node to open its answer${because(status)}`;
    log.info(
      { node: status.state, networkKey: status.networkKey, epoch: status.epoch },
      'the node has joined',
    );
    return '';
  }
}

function because(status: NodeStatus): string {
  return status.message === undefined ? '' : `: ${status.code ?? ''} ${status.message}`.replace(':  ', ': ');
}
