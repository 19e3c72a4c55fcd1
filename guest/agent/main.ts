/** The agent daemon. `--root DIR` puts /run below DIR, `--listen HOST:PORT` moves the server, for tests without a VM. */
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import type { TSchema } from 'typebox';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import {
  AppKeyReply,
  AttestReply,
  ContainersReply,
  DiskStatusReply,
  InfoReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { Callers } from './callers.ts';
import { agentServer } from './server.ts';

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: '/' }, listen: { type: 'string', default: '0.0.0.0:80' } },
});
const log = pino({ name: 'agent' });
const [host, port] = flags.listen.split(':');

/** Waits for a sibling that is still starting, but gives up before an app's own time-out would hide the reason. */
const call = <T extends TSchema>(
  socket: string,
  method: 'GET' | 'POST',
  route: string,
  reply: T,
  body?: unknown,
) =>
  callUnix({
    path: join(flags.root, 'run/dstack', socket),
    method,
    route,
    reply,
    connectWithin: 10_000,
    timeout: 20_000,
    ...(body === undefined ? {} : { body }),
  });

const callers = new Callers(() =>
  call(sockets.kubernethesForAgent, 'GET', '/v1/containers', ContainersReply),
);
const server = agentServer(
  callers,
  {
    appKey: (app, tag) => call(sockets.replicatorForAgent, 'POST', '/v1/app-key', AppKeyReply, { app, tag }),
    attest: (app, tag, data) =>
      call(sockets.replicatorForAgent, 'POST', '/v1/attest', AttestReply, { app, tag, data }),
    info: () => call(sockets.replicatorForAgent, 'GET', '/v1/info', InfoReply),
    disk: () => call(sockets.diskStatus, 'GET', '/v1/status', DiskStatusReply),
  },
  log,
);
server.listen(Number(port), host);
await once(server, 'listening');
log.info({ address: server.address() }, 'listening');
