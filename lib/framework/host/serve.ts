/**
 * `serve`: a host runs for the contracts and enclave of its author. Which events there are, what is asked of the enclave about them, and
 * what is put together for that is the author's; order, retries, crashes, re-organisations and fees are taken care of.
 *
 * Each contract has an event loop and, if it is an EnclaveApp, a line of requests, with a part of the store of its own. What fails in one
 * of them waits and is tried again, or is given up by its code; nothing of it ends the others, or `serve`.
 */
import { Type } from 'typebox';
import type { Log } from '../../daemon/log.ts';
import { DstackError, Retryable } from '../../protocol/errors.ts';
import { type Address, addressKey } from '../../protocol/hex.ts';
import { EventLoop, type OpenJob } from '../event-loop.ts';
import type { Enclave, EventHandler } from '../handler.ts';
import { partOf, type Store } from '../store.ts';
import { within } from '../within.ts';
import { AppLine, type Assemble, type LineStatus } from './app-line.ts';
import type { ChainClient } from './chain-client.ts';

/** A contract on contracts/EnclaveApp.sol, whose requests the enclave answers in their order. */
export interface EnclaveAppOptions {
  contract: Address;
  /** What is put together for requests of a kind, besides what is in the event. */
  assemble?: Readonly<Record<string, Assemble>>;
}

/** A handler of any event of any contract. Several may have the same contract and topic: each of them runs, once for each event. */
export interface ContractHandler<E> extends EventHandler<E> {
  readonly contract: Address;
}

export interface ServeOptions {
  chain: ChainClient;
  enclave: Enclave;
  store: Store;
  log: Log;
  apps?: readonly EnclaveAppOptions[];
  // biome-ignore lint/suspicious/noExplicitAny: handlers of different events in one list; each E stays inside its handler
  handlers?: readonly ContractHandler<any>[];
  /** The first block that matters: where the contracts were deployed. */
  startBlock: number;
  /** Blocks that must follow an event's block before it is handled; 1 by default. */
  confirmations?: number;
  /** Milliseconds between looks at the chain; 2,000 by default. */
  pollInterval?: number;
}

/** For what a handler does about one event, milliseconds. */
const HANDLE_MAX_MS = 60_000;

/** How a host stands, by its contracts' addresses. */
export type ServeStatus = Readonly<
  Record<string, { block: number | undefined; open: OpenJob[]; problems: string[]; line?: LineStatus }>
>;

export interface Serving {
  status(): ServeStatus;
  /** Resolves when nothing of it runs any more. What is unfinished is in the store. */
  stop(): Promise<void>;
}

/** @throws HANDLER_TWICE when two handlers of one contract have the same topic and name; SERVE_NOTHING */
export function serve(options: ServeOptions): Serving {
  const { chain, enclave, store, log, apps = [], handlers = [], startBlock } = options;
  const { confirmations = 1, pollInterval = 2_000 } = options;
  const contracts = new Set([...apps, ...handlers].map(({ contract }) => addressKey(contract)));
  if (contracts.size === 0)
    throw new DstackError('SERVE_NOTHING', 'no contract is to be served: name one in apps or in handlers');
  const stopping = new AbortController();
  const services = [...contracts].map((contract) => {
    const own = partOf(store, `contract/${contract}/`);
    const app = apps.find((one) => addressKey(one.contract) === contract);
    const line =
      app === undefined
        ? undefined
        : new AppLine({
            ...{ contract, chain, enclave, store: own, log, pollInterval, startBlock },
            assemble: app.assemble ?? {},
          });
    const loop = new EventLoop({
      store: own,
      source: chain.logsOf(contract),
      enclave,
      host: {
        submit: (transaction) => chain.sendTransaction(transaction),
        publish: async () => {
          throw new DstackError('EFFECT_INVALID', 'there is no gossip here');
        },
      },
      message: Type.Never(),
      handlers: [
        ...(line === undefined ? [] : [line.handler()]),
        ...handlers
          .filter((one) => addressKey(one.contract) === contract)
          .map((one) => bounded(one, stopping.signal)),
      ],
      log,
      startBlock: async () => startBlock,
      confirmations,
      pollInterval,
    });
    return { contract, line, loop };
  });
  for (const { loop, line } of services) {
    loop.start();
    line?.start();
  }
  return {
    status: () =>
      Object.fromEntries(
        services.map(({ contract, loop, line }) => [
          contract,
          {
            ...{ block: loop.cursor(), open: loop.open(), problems: loop.problems() },
            ...(line !== undefined && { line: line.status() }),
          },
        ]),
      ),
    async stop() {
      stopping.abort(new Retryable('STOPPED', 'the host is being stopped'));
      await Promise.all(services.flatMap(({ loop, line }) => [loop.stop(), line?.stop()]));
    },
  };
}

/** What waits for something that never comes would hold up every other event of the contract. */
function bounded<E>(handler: ContractHandler<E>, stopped: AbortSignal): EventHandler<E> {
  const bound = <T>(step: string, task: () => Promise<T>): Promise<T> =>
    within(HANDLE_MAX_MS, `${step} of ${handler.name}`, task, stopped);
  // By name: a copy would lack what a class has.
  return {
    name: handler.name,
    topic: handler.topic,
    decode: (log) => handler.decode(log),
    request: (event, context) => bound('request', () => handler.request(event, context)),
    settle: (response, event) => bound('settle', () => handler.settle(response, event)),
    ...(handler.key && { key: (event: E) => handler.key!(event) }),
    ...(handler.foresee && { foresee: (events: readonly E[]) => handler.foresee!(events) }),
    ...(handler.refused && {
      refused: (event: E, error: DstackError) => bound('refused', () => handler.refused!(event, error)),
    }),
    ...(handler.over && { over: (event: E) => handler.over!(event) }),
  };
}
