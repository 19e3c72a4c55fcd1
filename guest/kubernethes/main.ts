/** The kubernethes daemon. `--root DIR` puts /run, /mnt, /var and /usr below DIR, for tests without a VM. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { chainClient, type Reached } from '../../lib/chain/chain-client.ts';
import { type NetworkReader, networkReader } from '../../lib/chain/network-reader.ts';
import { groupId } from '../../lib/daemon/groups.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { formatManifest } from '../../lib/protocol/manifest.ts';
import {
  type NetworkConfig,
  parseNetworkConfig,
  SUPERSEDED_GRACE,
} from '../../lib/protocol/network-config.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  APP_CALL_MAX_BYTES,
  AppCallRequest,
  AppFolderReply,
  JoinedReply,
  ManifestRequest,
  OpenSecretReply,
  SignerSecretRequest,
  sockets,
  UpstreamRequest,
} from '../../lib/protocol/sockets.ts';
import { groupOfSocket } from '../daemons.ts';
import { AppRequests } from './app-requests.ts';
import { readState, wanted } from './apps-reader.ts';
import { fetcher } from './deployment.ts';
import { FrontTurns } from './front-turns.ts';
import { handover } from './handover.ts';
import { type Kept, keptIn } from './kept.ts';
import { bridgeNumbers, podman } from './podman.ts';
import { probe } from './probe.ts';
import { type Secrets, secretsIn } from './secrets.ts';
import { SignerOrders } from './signer-orders.ts';
import { storage } from './storage.ts';
import { Supervisor } from './supervisor.ts';

const POLL = 2_000;
/** What the system, its daemons and the loading of images take of the machine's memory. */
const FOR_DAEMONS_MIB = 512;
/** Milliseconds: on an emulated processor a KEM takes its time. */
const OPENED_WITHIN = 60_000;
/** For an agent that is being started again. Milliseconds. */
const AGENT_WITHIN = 30_000;
const WAIT_FOR_SIBLING = 24 * 3600 * 1000;

const { values: flags } = parseArgs({ options: { root: { type: 'string', default: '/' } } });
const log = pino({ name: 'kubernethes' });
const at = (path: string): string => join(flags.root, path);
const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Known once the node has joined, and nothing runs before. */
let followed: { readonly network: NetworkConfig; readonly reader: NetworkReader } | undefined;

await main();

async function main(): Promise<void> {
  const scratch = at('var/lib/dstack/kubernethes');
  const bridges = bridgeNumbers(() => performance.now());
  // What an earlier run left still runs, and the front goes by what that run said last, until it is known here.
  let isLeftOver = existsSync(join(scratch, 'serving'));
  // It may have given bridges back just before.
  if (isLeftOver) bridges.rest();
  const engine = podman(at('run/podman/podman.sock'), undefined, bridges);
  const places = {
    hostVolume: at('mnt/host_volume'),
    storage: at('var'),
    meminfo: '/proc/meminfo',
  };
  mkdirSync(scratch, { recursive: true });
  const kept = keptIn(scratch);
  const turns = new FrontTurns();
  const secrets = secretsIn({
    engine,
    hostVolume: places.hostVolume,
    folder: join(scratch, 'secrets'),
    open: openSecret,
  });
  const orders = new SignerOrders({
    manifest: (hash) => kept.manifest(hash),
    chainNow() {
      if (followed === undefined) throw new DstackError('NOT_READY', 'the node has not joined yet');
      return followed.reader.chain.now();
    },
    // systemd starts the signer when it finds it.
    onFirst: () => writeFileSync(at('run/dstack/kubernethes/signer'), ''),
  });
  const supervisor = new Supervisor({
    engine,
    fetcher: fetcher(engine, places, kept, handover(guestPorts.images)),
    kept,
    storageOf: storage({
      diskStatus: at(join('run/dstack', sockets.diskStatus)),
      diskFolders: at(join('run/dstack', sockets.diskFolders)),
      hostVolume: at('mnt/host_volume'),
    }),
    secrets,
    async agentFolderOf(request) {
      const { folder } = await callUnix({
        path: at(join('run/dstack', sockets.agentForKubernethes)),
        method: 'POST',
        route: '/v1/app-folder',
        body: request,
        reply: AppFolderReply,
        connectWithin: AGENT_WITHIN,
        timeout: 2 * AGENT_WITHIN,
      });
      return folder;
    },
    probe: (at, plan) => probe(engine, at, plan),
    ownName: () => followed?.network.site?.domains[0],
    memoryMiB: Math.floor(totalmem() / 1024 ** 2) - FOR_DAEMONS_MIB,
    log,
    now: () => performance.now(),
    chainNow: () => followed?.reader.chain.reached().now ?? 0,
    supersededGrace: () => followed?.network.supersededGrace ?? SUPERSEDED_GRACE,
    pause,
    frontMark: () => turns.mark(),
  });
  await serve(supervisor, turns, kept, () => isLeftOver);
  await serveSigner(orders, secrets);
  // An engine that nobody has asked yet takes seconds to start, which need not wait for the network. Taking over asks it again.
  void engine.removeLooks().catch(() => undefined);
  const { epoch, reached } = await joined();
  log.info({ epoch }, 'the node has joined; reading the contract');
  followed = follow(reached);
  await untilDone('take over what an earlier run left', () => supervisor.adopt(reached.timestamp));
  isLeftOver = false;
  await run(supervisor, orders, followed);
}

async function serve(
  supervisor: Supervisor,
  turns: FrontTurns,
  kept: Kept,
  isLeftOver: () => boolean,
): Promise<void> {
  mkdirSync(at('run/dstack/kubernethes'), { recursive: true });
  const requests = new AppRequests((app) => supervisor.answersAt(app));
  const assertTakenOver = () => {
    if (isLeftOver())
      throw new DstackError('NOT_READY', 'what an earlier run of this daemon left is not taken over yet');
  };
  const containers = () => {
    assertTakenOver();
    return { containers: supervisor.containers(), manifests: supervisor.manifests() };
  };
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForAgent)),
    gid: socketGid(sockets.kubernethesForAgent),
    routes: {
      'GET /v1/containers': containers,
      'POST /v1/manifest': (body) => {
        const { manifestHash } = check(ManifestRequest, body, 'BAD_REQUEST', 'the request for a manifest');
        const manifest = kept.manifest(manifestHash);
        if (manifest === undefined)
          throw new DstackError('MANIFEST_MISSING', 'no container of this manifest runs here');
        return { text: new TextDecoder().decode(formatManifest(manifest)) };
      },
    },
  });
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForKv)),
    gid: socketGid(sockets.kubernethesForKv),
    routes: { 'GET /v1/containers': containers },
  });
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForTls)),
    gid: socketGid(sockets.kubernethesForTls),
    routes: {
      'POST /v1/upstream': (body) => {
        const { done } = check(UpstreamRequest, body, 'UPSTREAM_REQUEST', 'what the front has done');
        assertTakenOver();
        if (done !== undefined) turns.done(done);
        return { turn: turns.next(), ...supervisor.upstream() };
      },
    },
  });
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForReplicator)),
    gid: socketGid(sockets.kubernethesForReplicator),
    routes: {
      'GET /v1/apps': () => supervisor.status(),
      'POST /v1/app-request': (body) => {
        const asked = check(AppCallRequest, body, 'BAD_REQUEST', 'what an app is asked');
        assertTakenOver();
        return requests.ask(asked.app, asked.path, asked.body);
      },
    },
    // With what is around the body of the host's request.
    maxBodyBytes: APP_CALL_MAX_BYTES + 1024,
  });
}

async function serveSigner(orders: SignerOrders, secrets: Secrets): Promise<void> {
  await serveUnix({
    path: at(join('run/dstack', sockets.kubernethesForSigner)),
    gid: socketGid(sockets.kubernethesForSigner),
    routes: {
      'GET /v1/signer': () => orders.reply(),
      'POST /v1/signer-secret': async (body) => {
        const asked = check(SignerSecretRequest, body, 'BAD_REQUEST', "the request for a signer's secret");
        const { app, secret } = orders.secret(asked.manifest, asked.name);
        return { value: toHex(await secrets.value(app, secret)) };
      },
    },
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

/** By the replicator, which alone has the key. */
async function openSecret(app: string, name: string, envelope: Uint8Array): Promise<Uint8Array> {
  const { value } = await callUnix({
    path: at(join('run/dstack', sockets.replicatorForKubernethes)),
    method: 'POST',
    route: '/v1/open-secret',
    // Bytes that are no text become others, which open no more.
    body: { app, name, envelope: Buffer.from(envelope).toString('utf8') },
    reply: OpenSecretReply,
    timeout: OPENED_WITHIN,
  });
  return fromHex(value);
}

/** @param from the block that the node has reached: this daemon may have been restarted, and must not accept an earlier state */
function follow(from: Reached): { network: NetworkConfig; reader: NetworkReader } {
  const image = readImageInfo(flags.root);
  const network = parseNetworkConfig(readFileSync(at('run/dstack/network.json')), image.flavour);
  const chain = chainClient({ config: network, builtAt: image.builtAt, from });
  return { network, reader: networkReader(chain, network.contract) };
}

/**
 * Reads the contract and follows it, for ever. While the chain cannot be read, or is stale, what runs keeps running and nothing
 * else is started: the owner may have replaced what was read last. Nothing starts before the network has its minimum of nodes:
 * what an app stores in a network of one would be lost with that node.
 */
async function run(
  supervisor: Supervisor,
  orders: SignerOrders,
  { network, reader }: { network: NetworkConfig; reader: NetworkReader },
): Promise<void> {
  const read = () => readState(reader);
  const readAgain = async () => wanted(await read(), network.minimumNodes);
  let problem = '';
  for (;;) {
    try {
      const state = await read();
      supervisor.contractRead(state.at);
      orders.follow(state);
      const desired = wanted(state, network.minimumNodes);
      problem = '';
      void supervisor.step(desired, readAgain, state.pending, state.since);
    } catch (error) {
      supervisor.hold(`the contract says nothing to start yet (${codeOf(error)})`);
      if (problem !== codeOf(error))
        log.warn({ code: codeOf(error) }, `apps not followed: ${(error as Error).message}`);
      problem = codeOf(error);
      void supervisor.keep(error);
    }
    await pause(POLL);
  }
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
