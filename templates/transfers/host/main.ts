/** The host: it watches the contract, brings the enclave what it has to know, and pays for what it answers. It decides nothing. */
import { join } from 'node:path';
import { EvmChain, enclaveAt, hostSettings, lineLog, openStore, serve, stopSignal } from 'dstack/framework';
import { newestState } from './newest-state.ts';

const settings = hostSettings(process.env);
const { app, pollInterval, confirmations, startBlock } = settings;
const log = lineLog('host');
const store = openStore(join(settings.data, 'store'));
const chain = new EvmChain({
  url: settings.rpcUrl,
  chainId: app.chainId,
  privateKey: settings.privateKey,
  store,
  log,
  pollInterval,
  confirmations,
});
const state = () => newestState(chain, app.contract);
const serving = serve({
  chain,
  enclave: enclaveAt(settings.enclaveUrl),
  store,
  log,
  apps: [{ contract: app.contract, assemble: { deposit: state, transfer: state, withdraw: state } }],
  startBlock,
  confirmations,
  pollInterval,
});
chain.start();
log.info({ contract: app.contract, payer: chain.address }, 'serving');
await stopSignal();
await serving.stop();
await chain.stop();
store.close();
