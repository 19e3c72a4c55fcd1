/**
 * A whole host without a VM: a real relay process beside a real guest. The test controls all three processes and every
 * connection between them.
 *
 *     other relays ──gossip──► relay ──guest──► guest
 *                              relay ──chain──► chain
 */
import { join } from 'node:path';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { type Link, startLink } from './faults.ts';
import type { NodeSetting, TestNetwork, TestNode } from './network.ts';
import { type RelayProcess, startRelay } from './relay.ts';

export interface TestHost {
  /** Of this boot. */
  readonly node: TestNode;
  readonly relay: RelayProcess;
  /** How other relays reach this one: stays the same when the relay is started again. */
  readonly gossip: Link;
  /** Between relay and chain. The guest has its own way, by its network.json. */
  readonly chain: Link;
  /** Between relay and guest. */
  readonly guest: Link;
  /** What the relay shows its operator. */
  status(): Promise<RelayStatusView>;
  /** kill -9, and a new process on the same state. */
  restartRelay(): Promise<void>;
  /** A fresh machine: registers at zero, nothing in memory. The settings are those of the last boot, except for those given. */
  reboot(change?: Partial<NodeSetting>): Promise<void>;
  stop(): Promise<void>;
}

export interface RelayStatusView {
  waitingFor: string;
  node?: { state: string; code?: string };
  requests: { reason: string }[];
  peers: { peer: string; reachable: boolean }[];
}

let hosts = 0;

/** @param peers gossip URLs, usually other hosts' links */
export async function startHost(
  network: TestNetwork,
  setting: NodeSetting,
  peers: readonly string[] = [],
): Promise<TestHost> {
  const stateDir = join(network.directory, `relay-${hosts++}`);
  const [guest, gossip, chain] = [await startLink(), await startLink(), await startLink(network.anvil.url)];
  let booted = setting;
  let node = await network.start(booted);
  guest.heal(node.url);
  const run = async (): Promise<RelayProcess> => {
    const relay = await startRelay({
      chain: { rpc: (method, ...params) => network.rpc.send(method, params as unknown[]) },
      rpcUrl: chain.url,
      network: { domain: network.domain, address: parseAddress(network.contract) },
      guest,
      stateDir,
      peers,
    });
    gossip.heal(relay.gossipUrl);
    return relay;
  };
  let relay = await run();
  return {
    get node() {
      return node;
    },
    get relay() {
      return relay;
    },
    gossip,
    chain,
    guest,
    status: async () => (await (await fetch(`${relay.adminUrl}/v1/status`)).json()) as RelayStatusView,
    async restartRelay() {
      await relay.kill();
      relay = await run();
    },
    async reboot(change = {}) {
      await node.stop();
      booted = { ...booted, ...change };
      node = await network.start(booted);
      guest.heal(node.url);
    },
    async stop() {
      await relay.kill();
      await Promise.all([guest, gossip, chain].map((link) => link.stop()));
    },
  };
}
