/**
 * One network that the relay serves: its own store, archive, gossip, event loop and node. It shares only the payer with
 * other networks of the same host.
 */

import { existsSync, readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { shown } from '../../lib/chain/rpc-errors.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import type { EventProgress } from '../../lib/framework/event-loop.ts';
import type { EvmChain } from '../../lib/framework/host/chain-client.ts';
import { Host } from '../../lib/framework/host/host.ts';
import { Rounds } from '../../lib/framework/rounds.ts';
import type { Store } from '../../lib/framework/store.ts';
import type { TransactionStatus } from '../../lib/framework/transactions/transactions.ts';
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, addressKey, type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { type CollateralDesk, withCollateral } from '../collateral/attach.ts';
import type { NetworkSource } from '../dashboard/live-state.ts';
import { carriersOf } from '../gossip/carriers.ts';
import { Gossip } from '../gossip/gossip.ts';
import { isOfKind } from '../gossip/message-kind.ts';
import { PeerKeys } from '../gossip/peer-keys.ts';
import { NodeClient } from '../node-client.ts';
import { SiteClient } from '../site-client.ts';
import { type Admission, checkNetwork } from './admission.ts';
import { AppCourier } from './app-courier.ts';
import { AppFiles } from './app-files.ts';
import { AppsWatch } from './apps-watch.ts';
import { type Archive, archiveIn } from './archive.ts';
import { ArchiveCourier } from './archive-courier.ts';
import { DashboardSource } from './dashboard-source.ts';
import { RelayDesk } from './desk.ts';
import { relayHandlers } from './handlers.ts';
import { Join, type JoinStatus } from './join.ts';
import { answerKind } from './kinds/answer.ts';
import { certificateKind } from './kinds/certificate.ts';
import { requestKind } from './kinds/request.ts';
import { relayKinds } from './kinds.ts';
import { Network } from './network.ts';
import { NodeCount } from './node-count.ts';
import { SealingKeys } from './sealing-keys.ts';
import { gossipServer } from './server.ts';
import type { NetworkSettings } from './settings.ts';
import { SignerWatch } from './signer-watch.ts';
import { SiteCertificateCourier } from './site-certificate.ts';
import { SiteCollateral } from './site-collateral.ts';

/** How one network stands: what `GET /v1/status` answers. */
export interface RelayStatus extends JoinStatus {
  /** The account that pays. */
  gasAddress: Address;
  /** The last block whose events were read. */
  block: number | undefined;
  /** Requests of others that are being worked on, with reasons. */
  requests: { handler: string; block: number; transaction: string; attempts: number; reason: string }[];
  /** Of this network. */
  transactions: TransactionStatus[];
  peers: { peer: string; reachable: boolean }[];
  /** What other relays write into DSTACK_RECORDS_PEERS to reach this one; absent where it does not listen for records. */
  recordsAddress?: string;
  /** Whether messages travel as calldata, and after how many blocks the own node's request does; absent where they do not. */
  calldata?: { after: number };
  /** How the node's apps stand; undefined while it does not say it. */
  apps?: AppsStatus | undefined;
  /** How its signer stands; undefined where there is none, and while it does not say it. */
  signer?: SignerStatus | undefined;
  /** What the operator should see to before it stops anything. */
  warnings?: string[];
}

export interface ServiceOptions {
  settings: NetworkSettings;
  store: Store;
  chain: EvmChain;
  /** Shared by all networks of the host. */
  collateral: CollateralDesk;
  metrics: Metrics;
  log: Logger;
  /** Takes secrets out of text that the dashboard shows. */
  redact(text: string): string;
}

/** When the chain has not been read for this long, the relay is not healthy. Milliseconds. */
const STALLED_AFTER = 60_000;
/** The number of blocks whose hashes the contract can check: a request can't be about an older one. */
const REWIND_BLOCKS = 256;
/** Between looks at which messages are of no use any more. */
const EXPIRE_MS = 60_000;

export class NetworkService {
  readonly contract: Address;
  readonly archive: Archive;
  /** What its dashboard shows. */
  readonly dashboard: NetworkSource;
  readonly #options: ServiceOptions;
  readonly #gossip: Gossip<Admission>;
  readonly #network: Network;
  readonly #nodeCount: NodeCount;
  readonly #joining: Join;
  readonly #apps: AppsWatch;
  readonly #signer: SignerWatch;
  readonly #host: Host;
  readonly #events: EventProgress;
  readonly #peerSide: FastifyInstance;
  readonly #courier: AppCourier | undefined;
  readonly #archiveCourier: ArchiveCourier | undefined;
  readonly #startedAt = Date.now();
  readonly #expiring = new Rounds(() => this.#expire());

  constructor(options: ServiceOptions) {
    const { settings, store, chain, collateral, metrics, log } = options;
    const { chainId, contract, confirmations, pollMs: pollInterval } = settings;
    this.#options = options;
    this.contract = contract;
    this.archive = archiveIn(settings.stateDir);
    const rpc = chain.logsOf(contract);
    const network = new Network(rpc, { chainId, contract });
    this.#network = network;
    this.#nodeCount = new NodeCount(store);
    const node = new NodeClient(settings.nodeUrl);
    const { appFiles } = settings;
    const files = appFiles === undefined ? undefined : new AppFiles(appFiles.volume);
    this.#gossip = this.#gossipOf(new RelayDesk({ archive: this.archive, files }), () => certificates.rule());
    const { messages } = this.#gossip;
    const site = new SiteCollateral({ node, collateral, log });
    const certificates = new SiteCertificateCourier({
      client: new SiteClient(settings.siteUrl),
      gossip: this.#gossip,
      messages,
      store,
      domain: network.domain,
      extraRoots: () => this.#networkConfig()?.site?.roots ?? [],
      metrics,
      log,
    });
    this.#apps = new AppsWatch({ node, metrics, log });
    this.#signer = new SignerWatch({ node, metrics, log });
    const shared = { store, chain, network, messages, archive: this.archive, log, pollInterval };
    this.#joining = new Join({
      ...shared,
      node: {
        status: () => node.status(),
        answer: (message) => node.answer(message),
        newRequest: async () => withCollateral(await node.newRequest(), collateral),
        bootstrapPackage: async () => withCollateral(await node.bootstrapPackage(), collateral),
      },
      gossip: this.#gossip,
      whileJoined: async (isNew) => {
        await this.#apps.look();
        await this.#signer.look();
        await site.bring(isNew);
        await certificates.bring(isNew);
      },
    });
    const isOwn = (requestHash: Hex) => this.#joining.isOwn(requestHash);
    this.#host = new Host({
      ...shared,
      enclave: node,
      gossip: this.#gossip,
      handlers: relayHandlers({
        ...shared,
        node,
        collateral,
        isOwn,
        nodeCount: this.#nodeCount,
        ownKey: new PeerKeys(store).own,
        latency: () => this.#gossip.latency(),
        wake: (hash) => this.#host.wake(hash),
      }),
      // What is older has expired already.
      startBlock: async (_, head) => head - (await network.recent()).view.requestWindow,
      confirmations,
      rewind: REWIND_BLOCKS,
      onSetAside: () =>
        metrics.count('dstack_relay_jobs_set_aside_total', 'Stored jobs that could not be read.'),
    });
    this.#events = this.#host.progress(contract);
    this.#gossip.subscribe(({ message }) => {
      const subject = messages.subjectOf(message);
      // Only answered requests are archived, and whether this one will be is not known yet. An audit has no use for sealed
      // bytes: the fewer copies of them remain, the better.
      if (isOfKind(answerKind, message) && messages.isKept(subject)) this.archive.keep(message);
      if (isOfKind(certificateKind, message)) certificates.arrived();
      metrics.count('dstack_relay_gossip_messages_total', 'New gossip messages.', { type: message.type });
      this.#host.wake(subject);
      this.#joining.wake();
    }, this.#gossip.last);
    this.dashboard = new DashboardSource({
      chainId,
      contract,
      rpc,
      network,
      transactions: chain.payer,
      certificate: () => certificates.known,
      isOwn,
      status: () => this.status(),
      unhealthy: () => this.unhealthy(),
      redact: options.redact,
    });
    this.#peerSide = gossipServer(this.#gossip, this.archive, files, new SealingKeys(node), log);
    const hasRecordsPeers = (settings.records?.peers.length ?? 0) > 0;
    const byRecords = hasRecordsPeers ? { askable: () => this.#gossip.askable() } : {};
    if (byRecords.askable !== undefined) {
      const { archive } = this;
      this.#archiveCourier = new ArchiveCourier({
        archive,
        network: this.#network,
        ...byRecords,
        metrics,
        log,
      });
    }
    if (files !== undefined && appFiles?.fetch === true) {
      const apps = () => network.apps();
      this.#courier = new AppCourier({
        files,
        peers: settings.gossipPeers,
        ...byRecords,
        apps,
        metrics,
        log,
      });
    }
  }

  /** @param desk what relays may ask for beside messages; @param certificate what the website's must be, as soon as that is known */
  #gossipOf(desk: RelayDesk, certificate: () => Admission['certificate']): Gossip<Admission> {
    const { settings, store, metrics, log } = this.#options;
    return new Gossip({
      store,
      kinds: relayKinds,
      context: () => ({
        network: this.#network,
        held: this.#gossip.messages,
        flavour: this.#joining.status().node?.flavour,
        certificate: certificate(),
      }),
      carriers: carriersOf(settings, {
        domain: this.#network.domain,
        store,
        log,
        desk,
        chain: {
          rpc: this.#options.chain.logsOf(this.contract),
          transactions: this.#options.chain.payer,
          nodes: () => this.#nodeCount.nodes,
          requestWindow: async () => (await this.#network.recent()).view.requestWindow,
          own: () => this.#joining.open(),
          isOwn: (subject) => this.#joining.isOwn(parseHex(subject)),
          pollMs: settings.pollMs,
        },
        onCharge: (_source, code) =>
          metrics.count('dstack_relay_gossip_charged_total', 'Breaches of the protocol of gossip.', { code }),
      }),
      log,
      onRefused: (code) =>
        metrics.count('dstack_relay_gossip_refused_total', 'Gossip messages refused.', { code }),
    });
  }

  /** Starts serving peers; resolves with the base URL for them. */
  async listen(): Promise<string> {
    await this.#gossip.listen();
    return this.#peerSide.listen(this.#options.settings.gossipListen);
  }

  start(): void {
    this.#keepNetworkJson();
    this.#gossip.start();
    // A process may have died between a message and what it wakes.
    for (const subject of this.#gossip.messages.subjects(requestKind)) this.#host.wake(subject);
    this.#host.start();
    this.#joining.start();
    this.#expiring.start();
    this.#courier?.start();
    this.#archiveCourier?.start();
  }

  /** Resolves when nothing of it is running; the store stays open. */
  async stop(): Promise<void> {
    await Promise.all([
      this.#joining.stop(),
      this.#host.stop(),
      this.#expiring.stop(),
      this.#courier?.stop(),
      this.#archiveCourier?.stop(),
    ]);
    await this.#gossip.close();
    await this.#peerSide.close();
  }

  status(): RelayStatus {
    const { payer } = this.#options.chain;
    const { contract } = this;
    const { warning } = payer.balance;
    const hasJoined = this.#joining.status().node?.state === 'joined';
    return {
      ...this.#joining.status(),
      gasAddress: payer.address,
      block: this.#events.cursor(),
      requests: this.#events.open(),
      transactions: payer.open().filter(({ purpose }) => isOf(purpose, contract)),
      peers: this.#gossip.peers(),
      ...this.#recordsAddress(),
      ...(this.#options.settings.calldata !== undefined && { calldata: this.#options.settings.calldata }),
      apps: hasJoined ? this.#apps.status() : undefined,
      signer: hasJoined ? this.#signer.status() : undefined,
      warnings: [warning, ...this.#troubles()].filter((text) => text !== undefined),
    };
  }

  #recordsAddress(): Pick<RelayStatus, 'recordsAddress'> {
    const [recordsAddress] = this.#gossip.addresses();
    return recordsAddress === undefined ? {} : { recordsAddress };
  }

  /** What makes no progress, in the endpoint's own words where there are any. */
  #troubles(): string[] {
    const payer = this.#options.chain.payer.problem();
    const aside = this.#events.setAside();
    return [
      ...this.#events.problems(),
      ...(payer === undefined ? [] : [`transactions wait: ${payer}`]),
      ...(aside === 0 ? [] : [`${aside} stored jobs could not be read and are set aside: see the log`]),
    ].map((text) => shown(text, 500));
  }

  /** Why it is not healthy. */
  unhealthy(): string | undefined {
    const silence = Date.now() - (this.#events.polledAt() ?? this.#startedAt);
    return silence > STALLED_AFTER
      ? `the chain has not been read for ${Math.round(silence / 1000)} s`
      : undefined;
  }

  /** Brings its gauges up to date. */
  measure(): void {
    const { metrics } = this.#options;
    const gauge = metrics.gauge.bind(metrics);
    const held = this.#gossip.messages.count();
    gauge('dstack_relay_gossip_held', 'Gossip messages held.', held.loose, { class: 'loose' });
    gauge('dstack_relay_gossip_held', 'Gossip messages held.', held.kept, { class: 'kept' });
    gauge('dstack_relay_block', 'Last block whose events were read.', this.#events.cursor() ?? 0);
    const { jobs, parked } = this.#events.count();
    gauge('dstack_relay_requests_open', 'Requests of others being worked on.', jobs);
    gauge('dstack_relay_requests_parked', 'Registered requests with no copy in the gossip to try.', parked);
    const joined = this.#joining.status().node?.state === 'joined';
    gauge('dstack_relay_node_joined', '1 when the own node has joined.', joined ? 1 : 0);
    this.#apps.measure();
    this.#signer.measure();
    const age = (Date.now() - (this.#events.polledAt() ?? this.#startedAt)) / 1000;
    gauge('dstack_relay_chain_age_seconds', 'Since the chain was last read to its end.', age);
    for (const { name, help, value } of this.#gossip.figures()) gauge(name, help, value);
    for (const { peer, reachable } of this.#gossip.peers()) {
      const help = '1 when the peer answered last time.';
      gauge('dstack_relay_peer_reachable', help, reachable ? 1 : 0, { peer });
    }
  }

  /** Until a block that was read to its end: an endpoint that runs ahead must not make messages go. */
  async #expire(): Promise<number> {
    const block = this.#events.cursor();
    const isMore = block !== undefined && this.#gossip.messages.expire(block);
    return isMore ? 0 : EXPIRE_MS;
  }

  /** Joining hosts get it from here. */
  #keepNetworkJson(): void {
    this.#networkConfig((bytes) => this.archive.keepConfig(bytes));
  }

  /** This host's network.json, where it has one. One that is not this network's is for the VM to refuse; here it is just not used. */
  #networkConfig(keep: (bytes: Buffer) => void = () => {}): NetworkConfig | undefined {
    const { networkJson } = this.#options.settings;
    if (networkJson === undefined || !existsSync(networkJson)) return undefined;
    try {
      const bytes = readFileSync(networkJson);
      const config = parseNetworkConfig(bytes, 'sim');
      checkNetwork(this.#network.domain, config);
      keep(bytes);
      return config;
    } catch (error) {
      const message = `network.json is not served: ${(error as Error).message}`;
      this.#options.log.warn({ code: codeOf(error), networkJson }, message);
      return undefined;
    }
  }
}

/** Fillers are the payer's own, and delay each of its networks. */
const isOf = (purpose: string, contract: Address): boolean =>
  purpose.startsWith('fill:') || purpose.split(':')[1] === addressKey(contract);
