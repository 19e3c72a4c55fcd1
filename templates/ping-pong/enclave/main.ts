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

const { app, chain, port, visitorsPort, host, data } = enclaveSettings(process.env);
const log = lineLog('enclave');
const node = agent();
const enclave = {
  attestor: node,
  keys: node,
  store: new Tables(fileBacking(join(data, 'store'))),
  chain: chain === undefined ? nodeChain(node) : chainReader({ config: chain }),
};
const router = new Router(enclave, log).answers(app).kind('ping', ping);
const servers = [await router.listen({ port, host })];
// Routes with `open: true` are for visitors, who have a door of their own.
if (visitorsPort !== undefined) servers.push(await router.listen({ port: visitorsPort, host, isOpen: true }));
log.info({ port, contract: app.contract }, 'listening');
await stopSignal();
for (const server of servers) {
  server.close();
  server.closeAllConnections();
}
await enclave.store.close();
