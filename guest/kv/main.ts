/**
 * The store's daemon in a VM. It opens the log on the data disk with the keys that the replicator has for that disk, has etcd started
 * there, and listens at the gateways of apps' bridges. `--root DIR` puts every path below DIR, `--listen HOST:PORT` moves the door, for
 * tests without a VM. Start reading at start.ts.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { groupId } from '../../lib/daemon/groups.ts';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { listenUnix } from '../../lib/daemon/unix-http.ts';
import { originOf } from '../../lib/ledger/checkpoint.ts';
import { fromHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { Count, parseJson, Strict } from '../../lib/protocol/schema.ts';
import { type LedgerKeysReply, sockets } from '../../lib/protocol/sockets.ts';
import { publicPrefixes } from '../../lib/protocol/store-public.ts';
import { storeShares } from '../../lib/protocol/store-shares.ts';
import { BRIDGES, gatewayOf } from '../bridges.ts';
import { Callers } from '../callers.ts';
import { groupOfSocket } from '../daemons.ts';
import { listenAt } from '../listen.ts';
import type { Door } from './api/door.ts';
import { Apps } from './apps.ts';
import { ChainTime } from './chain-time.ts';
import { Clients } from './clients.ts';
import { etcdConfiguration } from './engine/arguments.ts';
import { type LedgerSettings, openLedger } from './open-ledger.ts';
import { siblingsAt } from './siblings.ts';
import { startStore } from './start.ts';

/** What one app may have open at once, and all together. */
const LIMITS = { connections: 4096, perSource: 512 };
/** One daemon needs one; a few more while it is started again. */
const SIBLING_CONNECTIONS = 16;
/** Of all clients outside; the front lets no more through. */
const CLIENTS = 512;
/** While the data disk is being opened or formatted. Milliseconds. */
const LOOK_EVERY = 500;
/** The epoch in which the log on this disk was begun, which its keys are of. */
const BornSchema = Strict({ epoch: Count });

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: '/' }, listen: { type: 'string' } },
});
const log = pino({ name: 'kv' });
const at = (path: string) => join(flags.root, path);
const folder = at('mnt/encrypted_data/kv');
const siblings = siblingsAt(flags.root);

async function main(): Promise<void> {
  const network = parseNetworkConfig(
    readFileSync(at('run/dstack/network.json')),
    readImageInfo(flags.root).flavour,
  );
  const disk = await openedDisk();
  const keys = await keysOf(disk);
  startEngine(network);
  const time = await ChainTime.follow(siblings.reached, log);
  const store = await startStore({
    socket: at(join('run/dstack', sockets.etcd)),
    folder,
    urls: () => [`http://dstack-guest:${guestPorts.store}`],
    log,
    ledger: async (upstream, onRevision) =>
      openLedger(await settingsOf(network, disk, keys, time), upstream, onRevision),
    shares: storeShares(network.store),
    publicPrefixes: publicPrefixes(network.store),
  });
  const apps = new Apps(new Callers(siblings.containers), log, network.store?.owner);
  const clients = new Clients({
    clients: network.store?.clients ?? {},
    certificate: siblings.certificate,
    time,
    requireUser: (call) => store.store.requireUser(call),
    log,
  });
  const door = store.door({
    callerOf: (socket) => apps.callerOf(socket),
    isStill: (socket, caller) => apps.isStill(socket, caller),
    clientsRoot: ({ name }) => clients.rootOf(name),
    // An app is its bridge: all its containers together.
    limits: { ...LIMITS, sourceOf: ({ localAddress }) => localAddress ?? '' },
  });
  const [hosts, port] =
    flags.listen === undefined
      ? [Array.from({ length: BRIDGES }, (_, index) => gatewayOf(index)), guestPorts.store]
      : [[flags.listen.split(':')[0]!], Number(flags.listen.split(':')[1])];
  await listenAt(door.server, hosts, port);
  // Without clients in network.json there is no socket, and the front leads nowhere.
  if (network.store?.clients !== undefined) {
    const outside = store.door({
      callerOf: (socket) => clients.callerOf(socket),
      isStill: (socket) => clients.isStill(socket),
      tls: clients.tls(),
      // By source they are counted where that can be told, in front.
      limits: { connections: CLIENTS, perSource: CLIENTS },
    });
    await listenFor(outside, sockets.kvForFront);
  }
  // What the signer keeps is its own, as an app's is.
  const ofSigner = store.door({
    callerOf: () => ({ prefix: utf8('d/signer/'), name: 'signer', owner: false }),
    limits: { connections: SIBLING_CONNECTIONS, perSource: SIBLING_CONNECTIONS },
  });
  await listenFor(ofSigner, sockets.kvForSigner);
  log.info({ log: disk }, 'the store listens');
}

/** At a socket that one other daemon may connect to. */
async function listenFor({ server }: Door, socket: string): Promise<void> {
  const group = groupOfSocket(socket);
  await listenUnix(server, {
    path: at(join('run/dstack', socket)),
    gid: group === undefined ? undefined : groupId(flags.root, group),
  });
}

/** The data disk's id, once it is open. @throws STORE_NO_DISK for a node that has none, or cannot open it: then it has no store */
async function openedDisk(): Promise<string> {
  for (;;) {
    const { state, diskId, code } = await siblings.disk();
    if (state === 'ready' && diskId !== undefined) return diskId;
    if (state === 'absent' || state === 'failed') {
      throw new DstackError(
        'STORE_NO_DISK',
        `network.json has a store, and this node no data disk for it (${code ?? state}): give the VM one`,
      );
    }
    await sleep(LOOK_EVERY);
  }
}

/** The keys of the log on this disk: of the epoch in which it was begun, which is remembered there before anything is signed. */
async function keysOf(disk: string): Promise<LedgerKeysReply> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'born.json');
  if (existsSync(path)) {
    const born = parseJson(BornSchema, readFileSync(path, 'utf8'), 'STORE_BORN', 'born.json', 1024);
    return siblings.ledgerKeys(disk, born.epoch);
  }
  const keys = await siblings.ledgerKeys(disk);
  writeDurably(path, JSON.stringify({ epoch: keys.epoch }), 0o600);
  return keys;
}

async function settingsOf(
  { chainId, contract }: NetworkConfig,
  disk: string,
  { seed, saltKey, epoch }: LedgerKeysReply,
  time: ChainTime,
): Promise<LedgerSettings> {
  return {
    folder: join(folder, 'ledger'),
    origin: originOf({ chainId, contract: parseAddress(contract) }, fromHex(disk, 16)),
    seed: fromHex(seed, 32),
    saltKey: fromHex(saltKey, 32),
    now: () => time.last,
    evidence: JSON.stringify(await siblings.ledgerEvidence(disk, epoch)),
    // What was written is in etcd, and nothing is acknowledged any more: the next run of this daemon takes it up, or says why not.
    onStop: (why) => {
      log.error({ err: why, code: why.code }, 'the ledger has stopped, and the store with it');
      process.exit(1);
    },
  };
}

/** etcd is a daemon of its own, which systemd starts when it finds this file. */
function startEngine({ store }: NetworkConfig): void {
  mkdirSync(at('run/dstack/kv'), { recursive: true });
  const settings = {
    data: at('mnt/encrypted_data/etcd'),
    socket: at(join('run/dstack', sockets.etcd)),
    peerPort: guestPorts.storePeers,
    quota: storeShares(store).database,
  };
  writeDurably(at('run/dstack/kv/etcd.json'), etcdConfiguration(settings), 0o644);
}

try {
  await main();
} catch (error) {
  log.error({ err: error }, 'the store is not served');
  // Without a disk there is nothing to try again: that is for a person to see.
  process.exit(codeOf(error) === 'STORE_NO_DISK' ? 0 : 1);
}
