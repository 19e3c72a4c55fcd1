/** The enclave: in a container of the VM, or under `dstack dev`. */
import { join } from 'node:path';
import { agent } from 'dstack/agent';
import {
  chainReader,
  enclaveSettings,
  fileBacking,
  lineLog,
  Router,
  stopSignal,
  Tables,
} from 'dstack/framework';
import { opening, Transfers } from './transfers.ts';

const { app, chain, port, host, data } = enclaveSettings(process.env);
const log = lineLog('enclave');
const node = agent();
const enclave = {
  attestor: node,
  keys: node,
  store: new Tables(fileBacking(join(data, 'store'))),
  chain: chainReader({ config: chain }),
};
const transfers = new Transfers(app);
const server = await new Router(enclave, log)
  .answers(app)
  .kind('open', opening)
  .kind('deposit', transfers.deposit())
  .kind('transfer', transfers.transfer())
  .kind('withdraw', transfers.withdraw())
  .route('/v1/balance', transfers.balance())
  .listen({ port, host });
log.info({ port, contract: app.contract }, 'listening');
await stopSignal();
server.close();
server.closeAllConnections();
await enclave.store.close();
