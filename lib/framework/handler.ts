/**
 * What an author implements to have something happen in the enclave because something happened on chain.
 *
 * The pattern is always the same: a contract event is noticed by a host, turned into a request for its enclave, and
 * the enclave's response becomes effects: a transaction, a gossip message. The host moves bytes and pays; it decides
 * nothing, because the enclave checks everything again. The loop that runs handlers (event-loop.ts) takes care of
 * order, retries, crashes and re-orgs; a handler is three small functions.
 */
import { type DstackError, Retryable } from '../protocol/errors.ts';
import type { Hex } from '../protocol/hex.ts';

/** The guest as its host sees it: a few routes that take and return JSON. */
export interface Enclave {
  /**
   * Sends `body` to `path` (undefined: a GET) and returns the parsed reply, unchecked: its schema is the caller's.
   * @throws Retryable when it may work later; any other DstackError is the enclave's refusal, with its code
   */
  request(path: string, body?: unknown): Promise<unknown>;
}

/** A log entry as the chain shows it. Addresses, topics and hashes are lower-case hex with 0x. */
export interface ContractLog {
  blockNumber: number;
  blockHash: Hex;
  transactionHash: Hex;
  logIndex: number;
  topics: readonly Hex[];
  data: string;
}

/** What a handler may know about the delivery of an event. */
export interface EventContext {
  log: ContractLog;
  /** Milliseconds since the event was first seen by this host. */
  age: number;
}

/** What to do about an event now. A reason is shown to the operator. */
export type Verdict =
  | { kind: 'request'; path: string; body: unknown }
  /** Ask again soon: something it needs is not there yet. A handler must end its waiting itself with a `skip`. */
  | { kind: 'wait'; reason: string }
  /**
   * Set it aside until `EventLoop.wake` is called with `key`: what it needs may never come. It costs nothing meanwhile, and
   * is over once the loop has read the blocks up to `until`.
   */
  | { kind: 'park'; key: Hex; until: number; reason: string }
  | { kind: 'skip'; reason: string };

/** Characters of a transaction's data, 0x and all. */
export const TRANSACTION_DATA_MAX = 32 * 1024;

export interface TransactionRequest {
  /** Names what the transaction is for, like `register:0xabc…`: there is never a second transaction for one purpose. */
  purpose: string;
  to: string;
  /** Calldata, hex with 0x, at most TRANSACTION_DATA_MAX. */
  data: string;
}

export type Effect =
  | ({ kind: 'transaction' } & TransactionRequest)
  /** A message for other hosts, of the kind that the loop's `message` schema describes. */
  | { kind: 'gossip'; message: unknown };

/** What the host does for an enclave. Both are durable when they return and may be repeated without harm. */
export interface Host {
  submit(transaction: TransactionRequest): Promise<void>;
  publish(message: unknown): Promise<void>;
}

export interface EventHandler<E> {
  /** Stable: part of what is stored. Lower case and dashes. */
  readonly name: string;
  /** The event's topic 0, 0x-prefixed. */
  readonly topic: string;
  /** @throws any error for a log that is not this event: it is dropped */
  decode(log: ContractLog): E;
  /** An event is a reason to read state, never a fact: the handler reads what it decides on. May be called often. */
  request(event: E, context: EventContext): Promise<Verdict>;
  /** Checks the enclave's response and says what follows from it. @throws when it is not a proper response */
  settle(response: unknown, event: E): Promise<Effect[]>;
  /**
   * The request was refused, for good or (a Retryable) for now, or its response was not a proper one. True when the event
   * is to be looked at again, at once: the handler has another request for it, or waits for one. Without this method, or
   * when it says no, what may pass is tried again after a pause, and the event is given up otherwise.
   */
  refused?(event: E, error: DstackError): Promise<boolean>;
  /** An event that was set aside is over. */
  over?(event: E): void;
}

/** What it waits for is on its way, as the chain confirms blocks: asked again at the loop's own pace, which does not slow. */
export class NotYet extends Retryable {}
