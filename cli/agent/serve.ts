/**
 * The agent of a VM in this process: its own server and sockets, asking its siblings over the same sockets as there. The replicator's are its own
 * routes; kubernethes and the disk, which apps learn little of, say what they would of one app that runs.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppSockets, OLDER, SOCKET } from '../../guest/agent/app-sockets.ts';
import { Doors, type Gateways, openGateways } from '../../guest/agent/door.ts';
import { HOST } from '../../guest/agent/guards.ts';
import { agentServer } from '../../guest/agent/server.ts';
import { siblingsAt } from '../../guest/agent/siblings.ts';
import { Callers } from '../../guest/callers.ts';
import { daemons } from '../../guest/daemons.ts';
import { appRoutes, type JoinedForApps, routesOf } from '../../guest/replicator/siblings.ts';
import type { Routes } from '../../lib/daemon/json-server.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  type ContainersReply,
  type DiskStatusReply,
  ManifestRequest,
  sockets,
} from '../../lib/protocol/sockets.ts';
import type { SimulatedApp } from './app.ts';

/** Where the bridge of the app would be: whoever reaches a port on the loopback is the app. */
const LOOPBACK = '127.0.0.1';

export interface AgentOptions {
  readonly app: SimulatedApp;
  readonly node: JoinedForApps;
  /** Absolute: where the socket's folder is. */
  readonly data: string;
  /** On the loopback; 0 for one that is free, left out for none. */
  readonly port?: number | undefined;
  readonly log: Log<'debug' | 'warn'>;
}

export interface SimulatedAgent {
  /** The folder to mount as /var/run/dstack. */
  readonly folder: string;
  readonly socket: string;
  readonly url?: string;
  /** Nothing listens any more, and no socket is left. */
  close(): Promise<void>;
}

/** @throws AGENT_LISTEN, the file system's own errors */
export async function serveAgent({ app, node, data, port, log }: AgentOptions): Promise<SimulatedAgent> {
  // Closed to everybody else: whoever reaches these sockets has every app's keys.
  const root = mkdtempSync(join(tmpdir(), 'dstack-agent-'));
  const open: Server[] = [];
  let gateways: Gateways | undefined;
  const siblings = siblingsAt(root);
  const names = () => [HOST, ...['127.0.0.1', 'localhost'].map((name) => `${name}:${gateways?.port}`)];
  const server = agentServer(
    new Callers(siblings.containers),
    siblings,
    log,
    (socket) => apps.ownerOf(socket),
    names,
  );
  const doors = new Doors(log);
  const apps = new AppSockets(join(data, 'apps'), server, doors);

  async function close(): Promise<void> {
    await apps.close();
    gateways?.shut();
    for (const one of [server, ...open]) {
      one.close();
      one.closeAllConnections();
    }
    if (folder !== undefined) for (const name of [SOCKET, OLDER]) rmSync(join(folder, name), { force: true });
    rmSync(root, { recursive: true, force: true });
  }

  let folder: string | undefined;
  try {
    for (const [path, routes] of Object.entries(siblingRoutes(app, node))) {
      mkdirSync(join(root, 'run/dstack', path, '..'), { recursive: true });
      open.push(await serveUnix({ path: join(root, 'run/dstack', path), routes }));
    }
    const loopback = port === undefined ? [] : [LOOPBACK];
    gateways = await openGateways(server, doors, loopback, port ?? 0).catch((error) =>
      refuseToListen(error, port),
    );
    const { container, manifestHash } = app;
    folder = await apps.open({ app: app.app, container, manifestHash, gateway: LOOPBACK });
  } catch (error) {
    await close();
    throw error;
  }
  // Its name stays, whatever the app and its manifest are.
  const named = join(data, 'run');
  rmSync(named, { force: true });
  symlinkSync(folder, named);
  return {
    folder: named,
    socket: join(named, SOCKET),
    ...(port === undefined ? {} : { url: `http://${LOOPBACK}:${gateways.port}` }),
    close,
  };
}

/** Each sibling's socket, by its path below /run/dstack, with what the agent may ask there. */
function siblingRoutes(app: SimulatedApp, node: JoinedForApps): Readonly<Record<string, Routes>> {
  const { container, manifestHash, api } = app;
  const containers: ContainersReply = {
    containers: [
      { app: app.app, container, manifestHash, api: [...api], address: LOOPBACK, gateway: LOOPBACK },
    ],
    manifests: [manifestHash],
  };
  const disk: DiskStatusReply = { state: 'absent' };
  return {
    [sockets.replicatorForAgent]: routesOf('agent', daemons, appRoutes(Promise.resolve(node))),
    [sockets.kubernethesForAgent]: {
      'GET /v1/containers': () => containers,
      'POST /v1/manifest': (body) => {
        check(ManifestRequest, body, 'BAD_REQUEST', 'the request for a manifest');
        return { text: app.text };
      },
    },
    [sockets.diskStatus]: { 'GET /v1/status': () => disk },
  };
}

function refuseToListen(cause: NodeJS.ErrnoException, port: number | undefined): never {
  const why = cause.code === 'EADDRINUSE' ? 'something else listens there' : cause.message;
  throw new DstackError('AGENT_LISTEN', `cannot listen at ${LOOPBACK}, port ${port}: ${why}`, { cause });
}
