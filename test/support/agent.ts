/**
 * The agent beside a joined node, as processes; the test plays kubernethes and the disk. Containers are known by an address on the loopback and
 * have the socket that kubernethes would mount into them.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import type { AgentApi } from '../../lib/protocol/manifest.ts';
import { formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { AppFolderReply, type ContainersReply, sockets } from '../../lib/protocol/sockets.ts';
import { freePort } from './free-port.ts';
import { eventually, type TestNode } from './network.ts';

export interface TestApp {
  readonly app: string;
  /** On the loopback. */
  readonly address: string;
  readonly api: readonly AgentApi[];
  /** Of its bridge: one that is not the agent's is for an app that comes by its socket only. */
  readonly gateway?: string;
}

/** The loopback stands for all bridges. */
export const GATEWAY = '127.0.0.1';

/** The manifest of such an app, with text beyond ASCII in it. */
export const manifestOf = ({ app, api }: TestApp): Uint8Array =>
  formatManifest({
    version: 2,
    app,
    containers: [
      { name: 'web', image: `sha256:${'ab'.repeat(32)}`, api: [...api], env: { GREETING: 'grüß dich' } },
    ],
  });

export interface TestAgent {
  readonly port: number;
  /** Of its process, another one after a restart. */
  pid(): number;
  readonly containers: ContainersReply['containers'];
  /** The folder that an app's container would have mounted. */
  folderOf(app: string): Promise<string>;
  restart(): Promise<void>;
  stop(): void;
}

export async function startAgent(node: TestNode, apps: readonly TestApp[]): Promise<TestAgent> {
  const run = join(node.directory, 'run/dstack');
  for (const folder of ['kubernethes', 'disk']) mkdirSync(join(run, folder), { recursive: true });
  const manifests = new Map(apps.map((app) => [toHex(manifestHash(manifestOf(app))), manifestOf(app)]));
  const containers = apps.map((one) => ({
    ...{ app: one.app, container: 'web', address: one.address, api: [...one.api] },
    gateway: one.gateway ?? GATEWAY,
    manifestHash: toHex(manifestHash(manifestOf(one))),
  }));
  const servers: Server[] = [];
  servers.push(
    await serveUnix({
      path: join(run, sockets.kubernethesForAgent),
      routes: {
        'GET /v1/containers': () => ({ containers, manifests: [...manifests.keys()] }),
        'POST /v1/manifest': (body) => {
          const { manifestHash: hash } = body as { manifestHash: string };
          const [, bytes] = [...manifests].find(([known]) => known === hash)!;
          return { text: new TextDecoder().decode(bytes) };
        },
      },
    }),
    await serveUnix({
      path: join(run, sockets.diskStatus),
      routes: { 'GET /v1/status': () => ({ state: 'ready', diskId: 'ab'.repeat(16), seconds: 1 }) },
    }),
  );
  const port = await freePort();
  let agent: ChildProcess;
  let starts = 0;
  const start = async () => {
    agent = node.daemon('agent', ['--listen', `${GATEWAY}:${port}`]);
    starts += 1;
    const listening = () => [...node.log().matchAll(/"name":"agent".*"msg":"listening"/g)].length;
    await eventually(async () => listening() === starts, 'the agent to listen');
  };
  await start();
  return {
    port,
    pid: () => agent.pid!,
    containers,
    async folderOf(app) {
      const { container, manifestHash: hash, gateway } = containers.find((one) => one.app === app)!;
      const { folder } = await callUnix({
        path: join(run, sockets.agentForKubernethes),
        method: 'POST',
        route: '/v1/app-folder',
        body: { app, container, manifestHash: hash, gateway },
        reply: AppFolderReply,
        connectWithin: 10_000,
      });
      return folder;
    },
    async restart() {
      const gone = once(agent, 'exit');
      agent.kill('SIGKILL');
      await gone;
      await start();
    },
    stop() {
      for (const server of servers) server.close();
    },
  };
}
