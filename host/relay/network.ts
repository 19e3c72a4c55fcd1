/** The network's contract as the relay reads and calls it. */
import type { TransactionRequest } from '../../lib/framework/handler.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  decodeNetwork,
  decodeRequest,
  encodeNetwork,
  encodeRequest,
  type NetworkView,
  type RequestView,
} from '../../lib/protocol/network-contract.ts';
import { onboardCall, registerCall } from '../../lib/protocol/onboarding-calls.ts';
import {
  type AnswerMessage,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { answerHash, isRecordedAnswer } from '../../lib/protocol/sealing.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { purposeOf } from './purpose.ts';
import type { Rpc } from './rpc.ts';

/** How old the view of the network may be when it only decides what to keep, milliseconds. */
const VIEW_MAX_AGE = 3000;

export class Network {
  readonly domain: Domain;
  readonly #rpc: Rpc;
  #view: { view: NetworkView; head: number; at: number } | undefined;
  #reading: Promise<{ view: NetworkView; head: number; at: number }> | undefined;

  constructor(rpc: Rpc, domain: Domain) {
    this.#rpc = rpc;
    this.domain = domain;
  }

  /**
   * The network and the newest block's number, at most `maxAge` milliseconds old. However many ask, the chain is asked once.
   */
  async recent(maxAge: number = VIEW_MAX_AGE): Promise<{ view: NetworkView; head: number }> {
    if (this.#view !== undefined && Date.now() - this.#view.at < maxAge) return this.#view;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    this.#view = await this.#reading;
    return this.#view;
  }

  /** A request's state now. @param hash 64 hex digits */
  async request(hash: Hex): Promise<RequestView> {
    return decodeRequest(await this.#rpc.call(encodeRequest({ requestHash: hash })));
  }

  async #read(): Promise<{ view: NetworkView; head: number; at: number }> {
    const head = await this.#rpc.head();
    return { view: decodeNetwork(await this.#rpc.call(encodeNetwork())), head, at: Date.now() };
  }

  /** The one `register` there may be for a request. */
  register(message: RequestMessage): TransactionRequest {
    const { hash } = requestOf(message);
    return {
      purpose: purposeOf('register', this.domain, toHex(hash)),
      to: this.domain.contract,
      data: registerCall(message),
    };
  }

  /** The one `onboard` there may be for a request. */
  onboard(message: AnswerMessage): TransactionRequest {
    return {
      purpose: purposeOf('onboard', this.domain, message.requestHash),
      to: this.domain.contract,
      data: onboardCall(message),
    };
  }
}

/** The hash by which an answer names these bytes, 64 hex digits. */
export const hashOfSealed = ({ sealed }: SealedMessage): Hex => toHex(answerHash(fromHex(sealed)));

/** Whether this is the answer whose hash the contract holds. @param hash 64 hex digits */
export function isHashOnChain(hash: Hex, view: RequestView): boolean {
  return view.state === 'answered' && isRecordedAnswer(fromHex(hash, 32), fromHex(view.answerHash, 32));
}

export const isSealedOnChain = (message: SealedMessage, view: RequestView): boolean =>
  isHashOnChain(hashOfSealed(message), view);
