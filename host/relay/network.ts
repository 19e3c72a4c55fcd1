/** The network's contract as the relay reads and calls it. */
import { isDeepStrictEqual } from 'node:util';
import { RateLimit } from '../../lib/daemon/rate-limit.ts';
import type { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import type { ContractLog, TransactionRequest } from '../../lib/framework/handler.ts';
import { appList } from '../../lib/protocol/app-list.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  type AppView,
  decodeConfigAllowedFrom,
  decodeNetwork,
  decodeRequestsByHash,
  encodeConfigAllowedFrom,
  encodeNetwork,
  encodeRequestsByHash,
  type NetworkView,
  networkTopics,
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

/** What one block showed. `head`: the number of the block up to which it is known to be so. */
interface Seen<View> {
  view: View;
  head: number;
  /** The hash of that block. */
  hash: string;
  /** The number of the block at which it was read, and after how many it is read again even if nothing seems to have happened to it. */
  readAt: number;
  again: number;
}

/** Of the network what nothing but events change: no time that passes does. */
export type RecentView = Pick<NetworkView, 'networkKey' | 'epoch' | 'requestWindow' | 'onboarded'>;

/** Events by which it changes, and by which the list of apps does; whatever else happens, they stay as they were read. */
const changesOf = ({ onboarded }: RecentView): string[] => [
  networkTopics.Bootstrapped,
  ...(onboarded ? [] : [networkTopics.Onboarded]),
];
const ROLLOUTS = [networkTopics.RolledOut, networkTopics.RolledBack, networkTopics.Withdrawn];
/**
 * Blocks after which it is read again even so: an endpoint that is several machines may have answered from one that was behind its
 * own head. What it says again, and again, was said by one that had come as far: so the pauses double, up to the most.
 */
const READ_AGAIN_BLOCKS = 16;
const READ_AGAIN_MOST = 256;

/**
 * Requests in one call. Each takes the endpoint two reads of storage and 192 bytes of its answer; memory beyond this would cost an
 * `eth_call` more gas than many endpoints give.
 */
const MOST_REQUESTS = 2000;
/** Requests that are remembered as about to be asked for. */
const MOST_FORESEEN = 8 * MOST_REQUESTS;
/** Blocks for which a request that nobody asked about any more is still read with the others. */
const REMEMBERED_BLOCKS = 4;

export class Network {
  readonly domain: Domain;
  readonly #rpc: Rpc;
  #view: Seen<RecentView> | undefined;
  #apps: Seen<readonly AppView[]> | undefined;
  #reading: Promise<Seen<RecentView>> | undefined;
  #requests = new Map<Hex, Seen<RequestView> & { asked: number }>();
  /** Asked for, or about to be. */
  readonly #wanted = new Set<Hex>();
  #readingRequests: Promise<void> | undefined;
  /** Calls before a new block is due, because of what anyone may send. */
  readonly #sooner = new RateLimit({ burst: 8, perSecond: 1 / 15 });

  constructor(rpc: Rpc, domain: Domain) {
    this.#rpc = rpc;
    this.domain = domain;
  }

  /**
   * The network at the newest block, and that block's number. However many ask, it is read once a block at most.
   * @param anew for one who would refuse something by it: it is read, whatever filters say, if it was not at this block
   */
  async recent(anew?: 'anew'): Promise<{ view: RecentView; head: number }> {
    const isAnew = anew !== undefined && this.#sooner.take('');
    const head = await this.#rpc.head(isAnew ? 'anew' : undefined);
    const known = this.#view;
    const mayHold = !isAnew || known?.readAt === head.number;
    if (known !== undefined && mayHold && this.#isUnchanged(known, head, changesOf(known.view))) return known;
    this.#reading ??= this.#rpc
      .call(encodeNetwork())
      .then((data) => this.#seen(head, decodeNetwork(data), known, changesOf))
      .finally(() => {
        this.#reading = undefined;
      });
    this.#view = await this.#reading;
    return this.#view;
  }

  /** The apps that have a manifest: read again once something may have happened to them. */
  async apps(): Promise<readonly AppView[]> {
    // What is looked at all the time keeps what is known of the network from being lost: the next join need not read it.
    await this.recent();
    const head = await this.#rpc.head();
    const known = this.#apps;
    if (known !== undefined && this.#isUnchanged(known, head, ROLLOUTS)) return known.view;
    this.#apps = this.#seen(head, await appList((data) => this.#rpc.call(data)), known, () => ROLLOUTS);
    return this.#apps.view;
  }

  /** @param before what was known of the same, until now. @param topicsOf the events by which that changes */
  #seen<View>(
    { number, hash }: { number: number; hash: string },
    view: View,
    before: Seen<View> | undefined,
    topicsOf: (view: View) => readonly string[],
  ): Seen<View> {
    // After an event the same as before may be what an endpoint says that has not come to it.
    const isConfirmed =
      before !== undefined &&
      this.#isQuietSince(before, number, topicsOf(before.view)) &&
      isDeepStrictEqual(before.view, view);
    let again = isConfirmed ? before.again : READ_AGAIN_BLOCKS;
    // Strangers can have it read sooner, which says nothing of how far an endpoint has come.
    if (isConfirmed && number - before.readAt >= again) again = Math.min(READ_AGAIN_MOST, 2 * again);
    return { view, head: number, hash, readAt: number, again };
  }

  #isQuietSince({ head, hash }: Seen<unknown>, to: number, topics?: readonly string[]): boolean {
    return this.#rpc.heads.hashOf(head) === hash && this.#rpc.isQuiet(head + 1, to, topics);
  }

  /** Whether the owner allowed a network.json of this hash, now or from some time on. @param config 64 hex digits */
  async isConfigAllowed(config: Hex): Promise<boolean> {
    return decodeConfigAllowedFrom(await this.#rpc.call(encodeConfigAllowedFrom({ config }))) !== 0n;
  }

  /** Requests that will be asked for now: they are read together. */
  foresee(hashes: readonly Hex[]): void {
    for (const hash of hashes) this.#wanted.add(hash);
    // Not all of them are asked for in the end, and anyone can have any number of them registered.
    for (const hash of this.#wanted) {
      if (this.#wanted.size <= MOST_FORESEEN) break;
      this.#wanted.delete(hash);
    }
  }

  /**
   * Whether a request surely is open since this event: its block is among those from which the newest one descends, and none of them since has an
   * answer, or another key. This takes no call. False where that is not known.
   */
  async isOpenSince({
    blockNumber,
    blockHash,
  }: Pick<ContractLog, 'blockNumber' | 'blockHash'>): Promise<boolean> {
    const { view, head } = await this.recent();
    const { heads } = this.#rpc;
    const isShown = heads.hashOf(blockNumber) === blockHash && blockNumber < head;
    return (
      isShown &&
      head < blockNumber + view.requestWindow &&
      this.#rpc.isQuiet(blockNumber, head, [networkTopics.Onboarded, networkTopics.Bootstrapped])
    );
  }

  /**
   * A request's state at the newest block, which is read in one call with that of all others that were asked for lately.
   * @param hash 64 hex digits
   */
  async request(hash: Hex): Promise<RequestView> {
    for (;;) {
      const head = await this.#rpc.head();
      const known = this.#requests.get(hash);
      if (known !== undefined && this.#holds(known, head)) {
        known.asked = head.number;
        return known.view;
      }
      this.#wanted.add(hash);
      this.#readingRequests ??= this.#readRequests(head).finally(() => {
        this.#readingRequests = undefined;
      });
      await this.#readingRequests;
      const read = this.#requests.get(hash);
      // Another's reading, which began before this one was asked for, may not have it.
      if (read?.hash === head.hash) return read.view;
    }
  }

  /** Whether what was seen still is so. The endpoint may serve a state that is behind its head, without the request. */
  #holds(seen: Seen<RequestView>, now: { number: number; hash: string }): boolean {
    const { state, expiresAfter } = seen.view;
    if (state === 'none') return false;
    if (state === 'open' && BigInt(now.number) >= expiresAfter && seen.hash !== now.hash) return false;
    return this.#isUnchanged(seen, now);
  }

  /**
   * At the same block, or at a later one if nothing happened to the contract in between: then it counts as seen there.
   * @param topics of the events by which it changes; any by default
   */
  #isUnchanged(
    seen: Seen<unknown>,
    now: { number: number; hash: string },
    topics?: readonly string[],
  ): boolean {
    if (seen.hash === now.hash) return true;
    if (now.number - seen.readAt >= seen.again) return false;
    if (!this.#isQuietSince(seen, now.number, topics)) return false;
    [seen.head, seen.hash] = [now.number, now.hash];
    return true;
  }

  async #readRequests(head: { number: number; hash: string }): Promise<void> {
    for (const [hash, seen] of this.#requests) {
      if (head.number - seen.asked > REMEMBERED_BLOCKS || seen.asked > head.number)
        this.#requests.delete(hash);
      else if (!this.#holds(seen, head)) this.#wanted.add(hash);
    }
    const hashes = [...this.#wanted];
    this.#wanted.clear();
    for (let from = 0; from < hashes.length; from += MOST_REQUESTS) {
      const some = hashes.slice(from, from + MOST_REQUESTS);
      const views = decodeRequestsByHash(await this.#rpc.call(encodeRequestsByHash({ requestHashes: some })));
      if (views.length !== some.length) {
        const what = `${views.length} requests are shown, ${some.length} were asked for`;
        throw new Retryable('CONTRACT_DATA_INVALID', what);
      }
      for (const [at, hash] of some.entries()) {
        const asked = this.#requests.get(hash)?.asked ?? head.number;
        const { number, hash: block } = head;
        const again = READ_AGAIN_BLOCKS;
        this.#requests.set(hash, {
          view: views[at]!,
          head: number,
          hash: block,
          readAt: number,
          again,
          asked,
        });
      }
    }
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
