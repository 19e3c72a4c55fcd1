/** The whole process of a host, by settings from its environment: its store, its chain, what its author serves, until it is told to end. */
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Log } from '../../daemon/log.ts';
import { stopSignal } from '../../daemon/stop-signal.ts';
import { DstackError, messageOf } from '../../protocol/errors.ts';
import type { AppDomain } from '../app/answer.ts';
import { lineLog } from '../app/line-log.ts';
import { hostSettings } from '../app/settings.ts';
import { openStore, type Store } from '../store.ts';
import { type ChainClient, EvmChain } from './chain-client.ts';
import { enclaveAt } from './enclave-client.ts';
import { type ServeOptions, serve } from './serve.ts';

/** What an author's part of a host is given. */
export interface HostParts {
  readonly app: AppDomain;
  readonly chain: ChainClient;
  readonly store: Store;
  readonly log: Log;
  /** Of the settings: before it there are no events. */
  readonly startBlock: number;
}

/** What it serves. A `startBlock` goes before that of the settings. */
export type Served = Partial<Pick<ServeOptions, 'apps' | 'handlers' | 'startBlock'>>;

/** The default export of a module of handlers is one. */
export type Serves = (parts: HostParts) => Served | Promise<Served>;

/**
 * Resolves once the process was told to end and nothing runs any more. Settings are those of `hostSettings`.
 * @param serves what the modules say that HOST_MODULES names, by default
 * @throws SETTINGS, ADDRESS_INVALID, STORE_OPEN, GAS_KEY; what `serves` and `serve` throw
 */
export async function runHost(
  serves?: Serves,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<void> {
  const { app, rpcUrl: url, privateKey, enclaveUrl, data, startBlock, ...pace } = hostSettings(env);
  const all = serves === undefined ? await hostModules(env) : [serves];
  const log = lineLog('host');
  const store = openStore(join(data, 'store'));
  const chain = new EvmChain({ url, chainId: app.chainId, privateKey, store, log, ...pace });
  const served = await Promise.all(all.map((one) => one({ app, chain, store, log, startBlock })));
  const serving = serve({
    ...{ chain, store, log, enclave: enclaveAt(enclaveUrl), ...pace },
    apps: served.flatMap(({ apps = [] }) => apps),
    handlers: served.flatMap(({ handlers = [] }) => handlers),
    startBlock: served.find((one) => one.startBlock !== undefined)?.startBlock ?? startBlock,
  });
  chain.start();
  log.info({ contract: app.contract, payer: chain.address }, 'serving');
  await stopSignal();
  await serving.stop();
  await chain.stop();
  store.close();
}

/**
 * HOST_MODULES: files with commas between, from the working folder. They run with this process's key, and are trusted with it.
 * @throws SETTINGS for none, and for one that can't be loaded or is no module of handlers
 */
async function hostModules({ HOST_MODULES: names = '' }: Readonly<Record<string, string | undefined>>) {
  const files = names.split(',').flatMap((name) => name.trim() || []);
  if (files.length === 0)
    throw new DstackError(
      'SETTINGS',
      'the environment variable HOST_MODULES is missing: files with handlers',
    );
  return Promise.all(
    files.map(async (file): Promise<Serves> => {
      const loaded = await import(pathToFileURL(resolve(file)).href).catch((cause) => {
        throw new DstackError('SETTINGS', `HOST_MODULES: ${file} can't be loaded: ${messageOf(cause)}`, {
          cause,
        });
      });
      if (typeof loaded.default === 'function') return loaded.default;
      throw new DstackError('SETTINGS', `HOST_MODULES: the default export of ${file} is no function`);
    }),
  );
}
