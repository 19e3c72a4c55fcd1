/**
 * A host: what happens in its contracts becomes requests of its enclave, and what the enclave answers becomes transactions and, where
 * there is gossip, messages to other hosts. Which events, which requests and what follows is in its handlers; order, retries, crashes,
 * re-organisations, nonces and fees are taken care of.
 *
 * Each contract has an event loop with a part of the store of its own. What fails in one of them waits and is tried again, or is given up
 * by its code; nothing of it ends the others, or the host.
 */
import { type TSchema, Type } from 'typebox';
import type { Log } from '../../daemon/log.ts';
import { DstackError, Retryable } from '../../protocol/errors.ts';
import { type Address, addressKey } from '../../protocol/hex.ts';
import { check } from '../../protocol/schema.ts';
import { EventLoop, type EventProgress } from '../event-loop.ts';
import type { Enclave, EventHandler } from '../handler.ts';
import { partOf, type Store } from '../store.ts';
import { within } from '../within.ts';
import type { ChainClient } from './chain-client.ts';

/**
 * A handler of an event of a contract. Handlers are told apart by contract, topic and name: several may have the same contract and topic, and
 * each of them runs, once for each event.
 */
export interface ContractHandler<E> extends EventHandler<E> {
  readonly contract: Address;
}

/** The first block that matters: where the contracts were deployed, or what follows from a contract and the newest block. */
export type StartBlock = number | ((contract: Address, head: number) => Promise<number>);

/** By which this host's messages reach other hosts. */
export interface Gossiping {
  /** What a message may be. */
  readonly schema: TSchema;
  /** Durable when it returns. */
  publish(message: unknown): Promise<unknown>;
}

export interface HostOptions {
  chain: Pick<ChainClient, 'sendTransaction' | 'logsOf'>;
  enclave: Enclave;
  store: Store;
  log: Log;
  // biome-ignore lint/suspicious/noExplicitAny: handlers of different events in one list; each E stays inside its handler
  handlers: readonly ContractHandler<any>[];
  startBlock: StartBlock;
  /** Without it, a handler that wants a message to be gossiped has its event given up: EFFECT_INVALID. */
  gossip?: Gossiping;
  /** Blocks that must follow an event's block before it is handled; 1 by default. */
  confirmations?: number;
  /** Milliseconds between looks at the chain; 2,000 by default. */
  pollInterval?: number;
  /** How far to look again after a re-organisation, blocks; 64 by default. */
  rewind?: number;
  /** Called once for each stored job that can't be read. */
  onSetAside?: () => void;
}

/** For each step of a handler, milliseconds. */
const STEP_MAX_MS = 60_000;

export class Host {
  readonly #loops: ReadonlyMap<Address, EventLoop>;
  readonly #stopping = new AbortController();

  /** @throws HANDLER_TWICE when two handlers of one contract have the same topic and name; SERVE_NOTHING */
  constructor(options: HostOptions) {
    const contracts = new Set(options.handlers.map(({ contract }) => addressKey(contract)));
    if (contracts.size === 0)
      throw new DstackError('SERVE_NOTHING', 'no contract is to be served: name one in apps or in handlers');
    this.#loops = new Map([...contracts].map((contract) => [contract, this.#loopOf(contract, options)]));
  }

  /** Starts reading the contracts; errors of the chain are logged and tried again. */
  start(): void {
    for (const loop of this.#loops.values()) loop.start();
  }

  /** Resolves when nothing of it runs any more. What is unfinished is in the store. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Retryable('STOPPED', 'the host is being stopped'));
    await Promise.all([...this.#loops.values()].map((loop) => loop.stop()));
  }

  /**
   * Something changed: what waits is looked at now, and what was set aside for `key` too. Nothing once it is being stopped.
   * @param key 64 hex digits
   */
  wake(key?: string): void {
    if (this.#stopping.signal.aborted) return;
    for (const loop of this.#loops.values()) loop.wake(key);
  }

  /** Its contracts, in lower case. */
  get contracts(): Address[] {
    return [...this.#loops.keys()];
  }

  /** How far it is with a contract. @throws CONTRACT_UNKNOWN when it has no handler of it */
  progress(contract: Address): EventProgress {
    const loop = this.#loops.get(addressKey(contract));
    if (loop === undefined) throw new DstackError('CONTRACT_UNKNOWN', `no handler is for ${contract}`);
    return loop;
  }

  #loopOf(contract: Address, options: HostOptions): EventLoop {
    const { chain, enclave, store, log, handlers, startBlock, gossip } = options;
    const { confirmations = 1, pollInterval = 2_000, rewind, onSetAside } = options;
    return new EventLoop({
      ...{ enclave, log, confirmations, pollInterval },
      ...(rewind !== undefined && { rewind }),
      ...(onSetAside !== undefined && { onSetAside }),
      store: contractStore(store, contract),
      source: chain.logsOf(contract),
      handlers: handlers
        .filter((one) => addressKey(one.contract) === contract)
        .map((one) => bounded(one, this.#stopping.signal)),
      startBlock: (head) => firstBlock(startBlock, contract, head),
      message: gossip?.schema ?? Type.Never(),
      host: {
        submit: (transaction) => chain.sendTransaction(transaction),
        async publish(message) {
          // It was checked before it was stored; a file is input too.
          const schema = gossip?.schema ?? Type.Never();
          await gossip?.publish(check(schema, message, 'EFFECT_INVALID', 'what a handler gossips'));
        },
      },
    });
  }
}

/** The part of a host's store that is about one contract. */
export const contractStore = (store: Store, contract: Address): Store =>
  partOf(store, `contract/${addressKey(contract)}/`);

/** @param head the newest block's number */
export const firstBlock = async (startBlock: StartBlock, contract: Address, head: number): Promise<number> =>
  typeof startBlock === 'number' ? startBlock : startBlock(contract, head);

/** What waits for something that never comes would hold up every other event of the contract. */
function bounded<E>(handler: ContractHandler<E>, stopped: AbortSignal): EventHandler<E> {
  const bound = <T>(step: string, task: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    within(STEP_MAX_MS, `${step} of ${handler.name}`, task, stopped);
  const { key, patience, foresee, refused, over } = handler;
  // By name, since a copy would lack what a class has; and all of them, so that the compiler says which one is missing here.
  const parts: { [part in keyof Required<EventHandler<E>>]: EventHandler<E>[part] | undefined } = {
    name: handler.name,
    topic: handler.topic,
    decode: (log) => handler.decode(log),
    request: (event, context) => bound('request', (signal) => handler.request(event, { ...context, signal })),
    settle: (response, event) => bound('settle', () => handler.settle(response, event)),
    key: key && ((event) => key.call(handler, event)),
    patience: patience && ((unread) => bound('patience', () => patience.call(handler, unread))),
    foresee: foresee && ((events) => foresee.call(handler, events)),
    refused: refused && ((event, error) => bound('refused', () => refused.call(handler, event, error))),
    over: over && ((event) => over.call(handler, event)),
  };
  return Object.fromEntries(
    Object.entries(parts).filter(([, part]) => part !== undefined),
  ) as unknown as EventHandler<E>;
}
