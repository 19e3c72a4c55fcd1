/**
 * `serve`: a host runs for the contracts and enclave of its author. Which events there are, what is asked of the enclave about them, and
 * what is put together for that is the author's; order, retries, crashes, re-organisations and fees are taken care of.
 *
 * Each contract has an event loop and, if it is an EnclaveApp, a line of requests, with a part of the store of its own. What fails in one
 * of them waits and is tried again, or is given up by its code; nothing of it ends the others, or `serve`.
 */
import { Type } from 'typebox';
import type { Log } from '../../daemon/log.ts';
import { DstackError } from '../../protocol/errors.ts';
import { type Address, addressKey } from '../../protocol/hex.ts';
import { EventLoop, type OpenJob } from '../event-loop.ts';
import type { Enclave, EventHandler } from '../handler.ts';
import { partOf, type Store } from '../store.ts';
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
  const services = [...contracts].map((contract) => {
    const own = partOf(store, `contract/${contract}/`);
    const app = apps.find((one) => addressKey(one.contract) === contract);
    const line =
      app === undefined
        ? undefined
        : new AppLine({
            ...{ contract, chain, enclave, store: own, log, pollInterval },
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
        ...handlers.filter((one) => addressKey(one.contract) === contract),
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
      await Promise.all(services.flatMap(({ loop, line }) => [loop.stop(), line?.stop()]));
    },
  };
}
