/**
 * The relay: the host process that watches the chain, pays gas and carries bytes between its own node and the network.
 * It holds no secret but its gas key, and decides nothing.
 *
 *   node host/relay/main.ts [--env-file host.env] [--key-file gas.key]
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Logger, pino } from 'pino';
import { EventLoop } from '../../lib/framework/event-loop.ts';
import { openStore } from '../../lib/framework/store.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { collateralDesk, withCollateral } from '../collateral/attach.ts';
import { collateralSources } from '../collateral/sources.ts';
import { HttpGossip } from '../gossip/http-gossip.ts';
import { subjectOf } from '../gossip/message-log.ts';
import { NodeClient } from '../node-client.ts';
import { admit, checkNetwork } from './admission.ts';
import { Join, type JoinStatus } from './join.ts';
import { Metrics } from './metrics.ts';
import { Network } from './network.ts';
import { onboardHandler } from './onboard-handler.ts';
import { Records } from './records.ts';
import { Rpc } from './rpc.ts';
import { adminServer, gossipServer } from './server.ts';
import { type RelaySettings, readEnvironment, readGasKey, relaySettings } from './settings.ts';
import { type TransactionStatus, Transactions } from './transactions.ts';

/** What `GET /v1/status` answers. */
export interface RelayStatus extends JoinStatus {
  /** The account that pays. */
  gasAddress: string;
  /** The last block whose events are taken in. */
  block: number | undefined;
  /** Requests of others that are being worked on, with reasons. */
  requests: { handler: string; block: number; transaction: string; attempts: number; reason: string }[];
  transactions: TransactionStatus[];
  peers: { peer: string; reachable: boolean }[];
}

export interface Relay {
  /** Base URLs that it listens on. */
  readonly gossipUrl: string;
  readonly adminUrl: string;
  status(): RelayStatus;
  /** Stops everything; what is unfinished goes on at the next start with the same state directory. */
  close(): Promise<void>;
}

/** Without a look at the chain for so long, the relay is not healthy. Milliseconds. */
const STALLED_AFTER = 60_000;

/**
 * Starts a relay; resolves when it serves.
 * @throws GAS_KEY, STORE_OPEN (another relay has the state directory), or the listeners' own errors
 */
export async function runRelay(settings: RelaySettings, logger?: Logger): Promise<Relay> {
  const log = logger ?? pino({ level: settings.logLevel, base: { service: 'relay' } });
  const privateKey = readGasKey(settings.gasKeyFile);
  const { chainId, contract, confirmations, pollMs: pollInterval } = settings;
  const store = openStore(join(settings.stateDir, 'relay.sqlite'));

  const metrics = new Metrics();
  const records = new Records(join(settings.stateDir, 'records'));
  const rpc = new Rpc({ url: settings.rpcUrl, chainId, contract });
  const network = new Network(rpc, { chainId, contract });
  const node = new NodeClient(settings.nodeUrl);
  const collateral = collateralDesk(
    collateralSources({ ...settings.collateral, cacheDir: join(settings.stateDir, 'collateral') }, log),
  );
  const gossip = new HttpGossip({
    store,
    peers: settings.gossipPeers,
    admit: (message) => admit(network, message),
    log,
    onRefused: (code) =>
      metrics.count('dstack_relay_gossip_refused_total', 'Gossip messages refused.', { code }),
  });
  const transactions = new Transactions({
    store,
    rpc,
    chainId,
    privateKey,
    log,
    metrics,
    maxFee: wei(settings.maxFeeGwei, 9),
    bumpAfter: settings.feeBumpSeconds * 1000,
    confirmations,
    lowBalance: wei(settings.lowBalanceEth, 18),
    pollInterval,
  });
  const joining = new Join({
    store,
    node: {
      status: () => node.status(),
      answer: (message) => node.answer(message),
      newRequest: async () => withCollateral(await node.newRequest(), collateral),
      bootstrapPackage: async () => withCollateral(await node.bootstrapPackage(), collateral),
    },
    network,
    gossip,
    messages: gossip.log,
    transactions,
    records,
    log,
    pollInterval,
  });
  const handler = onboardHandler({
    store,
    network,
    node,
    messages: gossip.log,
    records,
    collateral,
    isOwn: (requestHash) => joining.isOwn(requestHash),
    log,
  });
  const loop = new EventLoop({
    store,
    source: rpc,
    enclave: node,
    host: {
      submit: async (transaction) => transactions.submit(transaction),
      publish: async (message) => void (await gossip.publish(message)),
    },
    handlers: [handler],
    log,
    // What is older has expired already.
    startBlock: async (head) => head - (await network.recent()).view.requestWindow,
    confirmations,
    pollInterval,
  });
  gossip.subscribe(({ message }) => {
    if (gossip.log.isKept(subjectOf(message))) records.keep(message);
    metrics.count('dstack_relay_gossip_messages_total', 'New gossip messages.', { type: message.type });
    loop.wake();
    joining.wake();
  }, gossip.log.last);

  const status = (): RelayStatus => ({
    ...joining.status(),
    gasAddress: transactions.address,
    block: loop.cursor(),
    requests: loop.open(),
    transactions: transactions.open(),
    peers: gossip.peers(),
  });
  const startedAt = Date.now();
  const unhealthy = (): string | undefined => {
    const silence = Date.now() - (loop.polledAt() ?? startedAt);
    return silence > STALLED_AFTER
      ? `the chain has not been read for ${Math.round(silence / 1000)} s`
      : undefined;
  };
  const peerSide = gossipServer(gossip, records, log);
  const operatorSide = adminServer({
    records,
    metrics,
    status,
    unhealthy,
    log,
    measure() {
      const held = gossip.log.count();
      metrics.gauge('dstack_relay_gossip_held', 'Gossip messages held.', held.loose, { class: 'loose' });
      metrics.gauge('dstack_relay_gossip_held', 'Gossip messages held.', held.kept, { class: 'kept' });
      metrics.gauge('dstack_relay_block', 'Last block whose events are taken in.', loop.cursor() ?? 0);
      metrics.gauge('dstack_relay_requests_open', 'Requests of others being worked on.', loop.open().length);
      metrics.gauge(
        'dstack_relay_node_joined',
        '1 when the own node has joined.',
        joining.status().node?.state === 'joined' ? 1 : 0,
      );
      for (const { peer, reachable } of gossip.peers()) {
        metrics.gauge(
          'dstack_relay_peer_reachable',
          '1 when the peer answered last time.',
          reachable ? 1 : 0,
          { peer },
        );
      }
    },
  });

  /** Joining hosts get it from here. What is not this network's is for the VM to refuse; here it is only not served. */
  function keepNetworkJson(): void {
    const { networkJson } = settings;
    if (networkJson === undefined || !existsSync(networkJson)) return;
    try {
      const bytes = readFileSync(networkJson);
      checkNetwork(network.domain, parseNetworkConfig(bytes, 'sim'));
      records.keepConfig(bytes);
    } catch (error) {
      log.warn(
        { code: codeOf(error), networkJson },
        `network.json is not served: ${(error as Error).message}`,
      );
    }
  }

  async function close(): Promise<void> {
    await Promise.all([joining.stop(), loop.stop()]);
    await transactions.stop();
    await gossip.close();
    await Promise.all([peerSide.close(), operatorSide.close()]);
    store.close();
  }

  try {
    const gossipUrl = await peerSide.listen(settings.gossipListen);
    const adminUrl = await operatorSide.listen(settings.adminListen);
    keepNetworkJson();
    gossip.start();
    transactions.start();
    loop.start();
    joining.start();
    log.info(
      { gossip: gossipUrl, admin: adminUrl, gasAddress: transactions.address, contract, chainId },
      'the relay is running',
    );
    return { gossipUrl, adminUrl, status, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A decimal amount in its smallest unit, without going through a float that can't hold it. */
function wei(amount: number, decimals: number): bigint {
  const [whole = '0', fraction = ''] = amount.toFixed(9).split('.');
  return BigInt(whole + fraction.padEnd(decimals, '0').slice(0, decimals));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { 'env-file': { type: 'string' }, 'key-file': { type: 'string' } },
  });
  const keyFile = values['key-file'];
  const environment = readEnvironment(values['env-file'], {
    ...process.env,
    ...(keyFile === undefined ? {} : { DSTACK_GAS_KEY_FILE: keyFile }),
  });
  const relay = await runRelay(relaySettings(environment));
  const stop = once(() => relay.close());
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

/** A second signal must not start a second shutdown. */
function once<T>(action: () => T): () => T {
  let done: { result: T } | undefined;
  return () => {
    done ??= { result: action() };
    return done.result;
  };
}

if (import.meta.main) {
  main().catch((error) => {
    process.stderr.write(
      `${JSON.stringify({ level: 'fatal', code: codeOf(error), msg: (error as Error).message })}\n`,
    );
    process.exitCode = 1;
  });
}
