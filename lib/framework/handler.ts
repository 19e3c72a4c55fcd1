/**
 * What an author implements so that an event on chain makes something happen in the enclave.
 *
 * The pattern is always the same: the host notices a contract event and turns it into a request for its enclave, and the
 * enclave's response becomes effects: a transaction, a gossip message. The host moves bytes and pays; it decides
 * nothing, because the enclave checks everything again. The loop that runs handlers (event-loop.ts) takes care of
 * order, retries, crashes and re-orgs; a handler is three small functions.
 */
import { type DstackError, Retryable } from '../protocol/errors.ts';
import type { Hex } from '../protocol/hex.ts';

/** The guest as its host sees it: a few routes that take and return JSON. */
export interface Enclave {
  /**
   * Sends `body` to `path` (a GET when undefined) and returns the parsed reply, unchecked: the caller has the schema.
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
  /** Aborted once nobody waits for this look at it any more: what is done after that has no effect, and another may have begun. */
  signal?: AbortSignal;
}

/** A block whose filter says that it may have events of a handler, and that is not read yet. */
export interface UnreadBlock {
  /** Milliseconds since this host could have read it. */
  age: number;
  /** How many blocks there are after it. */
  followed: number;
  /** Whether its filter may have such an event that is about `subject`, its first indexed word, 64 hex digits. */
  names(subject: string): boolean;
}

/** What to do about an event now. A reason is shown to the operator. */
export type Verdict =
  | { kind: 'request'; path: string; body: unknown }
  /** Ask again soon: something the handler needs is not there yet. The handler itself must end the waiting with a `skip`. */
  | { kind: 'wait'; reason: string }
  /**
   * Set the event aside until `EventLoop.wake` is called with `key`: what the handler needs may never come. It costs nothing in
   * the meantime, and expires once the loop has read the blocks up to `until`.
   */
  | { kind: 'park'; key: Hex; until: number; reason: string }
  | { kind: 'skip'; reason: string };

/** Characters of a transaction's data, including 0x. */
export const TRANSACTION_DATA_MAX = 32 * 1024;

export interface TransactionRequest {
  /** What the transaction is for, such as `register:0xabc…`: a purpose never gets a second transaction. */
  purpose: string;
  to: string;
  /** Calldata, hex with 0x, at most TRANSACTION_DATA_MAX. */
  data: string;
}

export type Effect =
  | ({ kind: 'transaction' } & TransactionRequest)
  /** A message for other hosts, of the kind that the loop's `message` schema describes. */
  | { kind: 'gossip'; message: unknown };

/** What carries effects out. Both calls are durable when they return, and may be repeated without harm. */
export interface Outlet {
  submit(transaction: TransactionRequest): Promise<void>;
  publish(message: unknown): Promise<void>;
}

export interface EventHandler<E> {
  /** Stable: part of what is stored. Lower case and dashes. */
  readonly name: string;
  /** The event's topic 0, 0x-prefixed. */
  readonly topic: string;
  /** @throws any error for a log that is not this event: the log is dropped */
  decode(log: ContractLog): E;
  /**
   * What the event is about, such as an account: of events of one handler with the same key, each is worked on once the one before is
   * done, in the chain's order. Without it they do not wait for each other. A parked event is not waited for.
   */
  key?(event: E): string;
  /**
   * For how many milliseconds this handler need not know of the events of such a block: they are then read with those of later blocks, in one call. It
   * is asked again every second and when the loop is woken. Anyone can have a filter say more than there is: this may delay an event, and decides
   * nothing about it. Without this method events are read at once.
   */
  patience?(unread: UnreadBlock): Promise<number>;
  /** `request` is about to be asked for each of these, one after the other: what they need can be read at once. */
  foresee?(events: readonly E[]): void;
  /** An event is a reason to read state, never a fact: the handler reads the state that it decides on. May be called often. */
  request(event: E, context: EventContext): Promise<Verdict>;
  /** Checks the enclave's response and returns what follows from it. @throws when the response is malformed */
  settle(response: unknown, event: E): Promise<Effect[]>;
  /**
   * The request was refused, for good or (a Retryable) for now, or its response was malformed. Returns true to have the event
   * looked at again at once: the handler has another request for it, or waits for one. Without this method, or when it returns
   * false, a Retryable is tried again after a pause, and any other error gives the event up.
   */
  refused?(event: E, error: DstackError): Promise<boolean>;
  /** An event that was set aside has expired. */
  over?(event: E): void;
}

/** What the handler waits for comes with further blocks: it is asked again at the loop's own pace, which does not slow down. */
export class NotYet extends Retryable {}
