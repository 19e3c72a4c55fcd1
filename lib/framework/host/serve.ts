/**
 * `serve`: a host runs for the contracts and the enclave of its author. A contract on EnclaveApp is a handler that keeps its requests, and
 * a line that moves them; handlers of any other events run beside it.
 */
import { type Address, sameAddress } from '../../protocol/hex.ts';
import type { OpenJob } from '../event-loop.ts';
import { AppLine, type Assemble, type LineStatus } from './app-line.ts';
import type { ChainClient } from './chain-client.ts';
import { type ContractHandler, contractStore, Host, type HostOptions } from './host.ts';

/** A contract on contracts/EnclaveApp.sol, whose requests the enclave answers in their order. */
export interface EnclaveAppOptions {
  contract: Address;
  /** What is put together for requests of a kind, besides what is in the event. */
  assemble?: Readonly<Record<string, Assemble>>;
}

export interface ServeOptions extends Omit<HostOptions, 'chain' | 'handlers'> {
  chain: ChainClient;
  apps?: readonly EnclaveAppOptions[];
  // biome-ignore lint/suspicious/noExplicitAny: handlers of different events in one list; each E stays inside its handler
  handlers?: readonly ContractHandler<any>[];
}

/** How a host stands, by its contracts' addresses. */
export type ServeStatus = Readonly<
  Record<string, { block: number | undefined; open: OpenJob[]; problems: string[]; line?: LineStatus }>
>;

export interface Serving extends Pick<Host, 'wake' | 'stop'> {
  status(): ServeStatus;
}

/** @throws HANDLER_TWICE when two handlers of one contract have the same topic and name, or an app is there twice; SERVE_NOTHING */
export function serve(options: ServeOptions): Serving {
  const { apps = [], handlers = [], pollInterval = 2_000, store } = options;
  const lines = apps.map(({ contract, assemble = {} }) => {
    const own = contractStore(store, contract);
    return new AppLine({ ...options, contract, assemble, pollInterval, store: own });
  });
  const host = new Host({ ...options, handlers: [...lines.map((line) => line.handler()), ...handlers] });
  for (const part of [host, ...lines]) part.start();
  return {
    wake: (key) => host.wake(key),
    status: () => Object.fromEntries(host.contracts.map((contract) => [contract, statusOf(contract)])),
    async stop() {
      await Promise.all([host, ...lines].map((part) => part.stop()));
    },
  };

  function statusOf(contract: Address): ServeStatus[string] {
    const progress = host.progress(contract);
    const line = lines.find((one) => sameAddress(one.contract, contract))?.status();
    return {
      ...{ block: progress.cursor(), open: progress.open(), problems: progress.problems() },
      ...(line !== undefined && { line }),
    };
  }
}
