/** The agent daemon. `--root DIR` puts /run below DIR, `--listen HOST:PORT` moves the server, for tests without a VM. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { groupId } from '../../lib/daemon/groups.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { check } from '../../lib/protocol/schema.ts';
import { AppFolderRequest, sockets } from '../../lib/protocol/sockets.ts';
import { BRIDGES, gatewayOf } from '../bridges.ts';
import { Callers } from '../callers.ts';
import { groupOfSocket } from '../daemons.ts';
import { AppSockets } from './app-sockets.ts';
import { Doors, openGateways } from './door.ts';
import { agentServer } from './server.ts';
import { siblingsAt } from './siblings.ts';

/** How often it is looked which containers there are: those of before this daemon was started have no socket until then. Milliseconds. */
const LOOK_EVERY = 2_000;

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: '/' }, listen: { type: 'string' } },
});
const log = pino({ name: 'agent' });
const run = join(flags.root, 'run/dstack');
// At the gateways and nowhere else: what comes by the card finds nobody, whatever lets it in. A gateway is listened on before its
// bridge is there (the initramfs allows that), so that an app's first call is answered.
const [hosts, port] =
  flags.listen === undefined
    ? [Array.from({ length: BRIDGES }, (_, index) => gatewayOf(index)), guestPorts.agent]
    : [[flags.listen.split(':')[0]!], Number(flags.listen.split(':')[1])];

const siblings = siblingsAt(flags.root);
const server = agentServer(new Callers(siblings.containers), siblings, log, (socket) =>
  appSockets.ownerOf(socket),
);
mkdirSync(join(run, 'agent'), { recursive: true });
const doors = new Doors(log);
const appSockets = new AppSockets(join(run, 'agent/apps'), server, doors);
const { port: bound } = await openGateways(server, doors, hosts, port);
log.info({ address: { port: bound } }, 'listening');

const group = groupOfSocket(sockets.agentForKubernethes);
await serveUnix({
  path: join(run, sockets.agentForKubernethes),
  gid: group === undefined ? undefined : groupId(flags.root, group),
  routes: {
    'POST /v1/app-folder': async (body) => ({
      folder: await appSockets.open(check(AppFolderRequest, body, 'BAD_REQUEST', 'the request for a folder')),
    }),
  },
});

for (let problem = ''; ; ) {
  try {
    await appSockets.follow(await siblings.containers());
    problem = '';
  } catch (error) {
    if (problem !== codeOf(error))
      log.warn({ code: codeOf(error) }, `sockets of apps not followed: ${(error as Error).message}`);
    problem = codeOf(error);
  }
  await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
}
