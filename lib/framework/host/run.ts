/** The whole process of a host, by settings from its environment: its store, its chain, what its author serves, until it is told to end. */
import { join } from 'node:path';
import type { Log } from '../../daemon/log.ts';
import { stopSignal } from '../../daemon/stop-signal.ts';
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
}

/** What it serves; the contract of the settings alone, without anything put together, by default. */
export type Served = Pick<ServeOptions, 'apps' | 'handlers'>;

/**
 * Resolves once the process was told to end and nothing runs any more. Settings are those of `hostSettings`.
 * @throws SETTINGS, ADDRESS_INVALID, STORE_OPEN, GAS_KEY; what `served` and `serve` throw
 */
export async function runHost(
  served: (parts: HostParts) => Served | Promise<Served> = ({ app }) => ({ apps: [app] }),
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<void> {
  const { app, rpcUrl: url, privateKey, enclaveUrl, data, startBlock, ...pace } = hostSettings(env);
  const log = lineLog('host');
  const store = openStore(join(data, 'store'));
  const chain = new EvmChain({ url, chainId: app.chainId, privateKey, store, log, ...pace });
  const serving = serve({
    ...{ chain, store, log, startBlock, enclave: enclaveAt(enclaveUrl), ...pace },
    ...(await served({ app, chain, store, log })),
  });
  chain.start();
  log.info({ contract: app.contract, payer: chain.address }, 'serving');
  await stopSignal();
  await serving.stop();
  await chain.stop();
  store.close();
}
