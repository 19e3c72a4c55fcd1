/** The enclave: in a container of the VM, or under `dstack dev`. */
import { join } from 'node:path';
import { agent } from 'dstack/agent';
import {
  chainReader,
  enclaveSettings,
  fileBacking,
  lineLog,
  nodeChain,
  Router,
  stopSignal,
  Tables,
} from 'dstack/framework';
import { ping } from './ping.ts';

const { app, chain, port, host, data } = enclaveSettings(process.env);
const log = lineLog('enclave');
const node = agent();
const enclave = {
  attestor: node,
  keys: node,
  store: new Tables(fileBacking(join(data, 'store'))),
  chain: chain === undefined ? nodeChain(node) : chainReader({ config: chain }),
};
const server = await new Router(enclave, log).answers(app).kind('ping', ping).listen({ port, host });
log.info({ port, contract: app.contract }, 'listening');
await stopSignal();
server.close();
server.closeAllConnections();
await enclave.store.close();
