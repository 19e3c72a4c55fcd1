/** The kubernethes daemon. `--root DIR` puts /run, /mnt, /var and /usr below DIR, for tests without a VM. */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { chainClient, type Reached } from '../../lib/chain/chain-client.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { groupId } from '../../lib/daemon/groups.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { DiskStatusReply, JoinedReply, sockets } from '../../lib/protocol/sockets.ts';
import { groupOfSocket } from '../daemons.ts';
import { readState, wanted } from './apps-reader.ts';
import { fetcher } from './deployment.ts';
import { podman } from './podman.ts';
import { Supervisor } from './supervisor.ts';

const POLL = 2_000;
const WAIT_FOR_SIBLING = 24 * 3600 * 1000;

const { values: flags } = parseArgs({ options: { root: { type: 'string', default: '/' } } });
const log = pino({ name: 'kubernethes' });
const at = (path: string): string => join(flags.root, path);
const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

await main();

async function main(): Promise<void> {
  const engine = podman(at('run/podman/podman.sock'));
  const scratch = at('var/lib/dstack/kubernethes');
  const places = { hostVolume: at('mnt/host_volume'), scratch, meminfo: '/proc/meminfo' };
  const supervisor = new Supervisor({
    engine,
    fetcher: fetcher(engine, places),
    dataFolder,
    accepts,
    log,
    now: () => performance.now(),
    pause,
  });
  mkdirSync(scratch, { recursive: true });
  await serve(supervisor);
  const { epoch, reached } = await joined();
  log.info({ epoch }, 'the node has joined; reading the contract');
  await untilDone('remove what an earlier run left', () => engine.clear());
  await run(supervisor, reached);
}

async function serve(supervisor: Supervisor): Promise<void> {
  mkdirSync(at('run/dstack/kubernethes'), { recursive: true });
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForAgent)),
    gid: socketGid(sockets.kubernethesForAgent),
    routes: { 'GET /v1/containers': () => ({ containers: supervisor.containers() }) },
  });
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForTls)),
    gid: socketGid(sockets.kubernethesForTls),
    routes: { 'GET /v1/upstream': () => supervisor.upstream() },
  });
}

function socketGid(path: string): number | undefined {
  const group = groupOfSocket(path);
  return group === undefined ? undefined : groupId(flags.root, group);
}

/** Answered only once the node has joined: no app starts while a quote that would pass for a request could still be had. */
function joined(): Promise<JoinedReply> {
  return callUnix({
    path: at(join('run/dstack', sockets.replicatorForKubernethes)),
    method: 'GET',
    route: '/v1/status',
    reply: JoinedReply,
    connectWithin: WAIT_FOR_SIBLING,
  });
}

/**
 * Reads the contract and follows it, for ever. While the chain cannot be read, or is stale, what runs keeps running and nothing
 * else is started: the owner may have replaced what was read last. Nothing starts before the network has its minimum of nodes:
 * what an app stores in a network of one would be lost with that node.
 *
 * @param from the block that the node has reached: this daemon may have been restarted, and must not accept an earlier state
 */
async function run(supervisor: Supervisor, from: Reached): Promise<void> {
  const image = readImageInfo(flags.root);
  const network = parseNetworkConfig(readFileSync(at('run/dstack/network.json')), image.flavour);
  const reader = networkReader(
    chainClient({ config: network, builtAt: image.builtAt, from }),
    network.contract,
  );
  const read = async () => wanted(await readState(reader), network.minimumNodes);
  let problem = '';
  for (;;) {
    try {
      const desired = await read();
      problem = '';
      await supervisor.step(desired, read);
    } catch (error) {
      supervisor.hold(`the contract says nothing to start yet (${codeOf(error)})`);
      if (problem !== codeOf(error))
        log.warn({ code: codeOf(error) }, `apps not followed: ${(error as Error).message}`);
      problem = codeOf(error);
      await supervisor.keep();
    }
    await pause(POLL);
  }
}

/** The app's own folder. Only its containers see it, whatever user they run as. */
async function dataFolder(app: string): Promise<string | undefined> {
  const status = await callUnix({
    path: at(join('run/dstack', sockets.diskStatus)),
    method: 'GET',
    route: '/v1/status',
    reply: DiskStatusReply,
    timeout: 5_000,
  });
  if (status.state === 'absent') return undefined;
  if (status.state !== 'ready') {
    const why = status.code === undefined ? status.state : `${status.state} (${status.code})`;
    throw new DstackError('DISK_NOT_READY', `the data disk is ${why}; the app waits for it`);
  }
  const folder = at(join('mnt/encrypted_data/apps', app));
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o777);
  return folder;
}

function accepts(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 2_000 });
    const end = (up: boolean) => {
      socket.destroy();
      resolve(up);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}

async function untilDone(what: string, action: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      log.warn({ code: codeOf(error) }, `cannot ${what} yet: ${(error as Error).message}`);
      await pause(POLL);
    }
  }
}
