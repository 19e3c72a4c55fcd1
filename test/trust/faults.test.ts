/**
 * A network of real processes (chain, relays, replicators, attestors) while the test partitions, stops, kills, replays and
 * swaps: each node ends up joined by exactly one onboarding, and says meanwhile what it waits for.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toHex } from '../../lib/protocol/encoding.ts';
import { parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import { type GossipMeddler, pause, resume, startGossipMeddler } from '../support/faults.ts';
import { startHost, type TestHost } from '../support/host.ts';
import { eventually, type NodeSetting, startTestNetwork, type TestNetwork } from '../support/network.ts';

let network: TestNetwork;
let a: TestHost;
let b: TestHost;
let c: TestHost;
const hosts: TestHost[] = [];
const meddlers: GossipMeddler[] = [];

async function host(setting: NodeSetting, peers: string[] = []): Promise<TestHost> {
  const started = await startHost(network, setting, peers);
  hosts.push(started);
  return started;
}

beforeAll(async () => {
  network = await startTestNetwork();
  a = await host({ role: 'bootstrap' });
  await network.allow(a.node);
  await network.bootstrap(a.node);
  // From here on blocks come by themselves, as relays and nodes expect.
  await network.rpc.send('evm_setIntervalMining', [1]);
});
afterAll(async () => {
  for (const meddler of meddlers) await meddler.stop();
  await Promise.all(hosts.map((each) => each.stop()));
  await network?.stop();
});

const joined = (which: TestHost) =>
  eventually(async () => (await which.node.status()).state === 'joined', 'the node to join', 120_000);
const waitsFor = (which: TestHost, what: RegExp) =>
  eventually(async () => {
    const { waitingFor } = await which.status();
    if (what.test(waitingFor)) return true;
    throw new Error(`it waits for ${waitingFor || 'nothing'}`);
  }, `the relay to wait for ${what}`);

/** The requests that the contract registered, and those that it onboarded, each as often as it says so. */
async function history(): Promise<{ registered: string[]; onboarded: string[] }> {
  const filter = { address: network.contract, fromBlock: '0x0', toBlock: 'latest' };
  const logs = (await network.rpc.send('eth_getLogs', [filter])) as { topics: string[]; data: string }[];
  const events = logs.map((log) => parseNetworkEvent(log));
  const requestsOf = (name: 'Registered' | 'Onboarded') =>
    events.flatMap((event) => (event?.name === name ? [event.requestHash] : []));
  return { registered: requestsOf('Registered'), onboarded: requestsOf('Onboarded') };
}

/** That many onboardings in all, each of a different request. */
async function expectOnboardings(count: number): Promise<void> {
  const { registered, onboarded } = await history();
  expect(onboarded).toHaveLength(count);
  expect(new Set(onboarded).size).toBe(count);
  expect(new Set(registered).size).toBe(registered.length);
  for (const request of onboarded) expect(registered).toContain(request);
}

test('a host cut off from all gossip waits, and says for what; healed, it joins', async () => {
  b = await host({ role: 'join' }, [a.gossip.url]);
  a.gossip.cut();
  await waitsFor(b, /^an answer to 0x[0-9a-f]{64}; it may come until block \d+$/);
  await eventually(
    async () => (await b.status()).peers.every(({ reachable }) => !reachable),
    'the peer to be gone',
  );
  await eventually(async () => {
    const [waiting] = (await a.status()).requests;
    return /^request [0-9a-f]{64} has not arrived by gossip$/.test(waiting?.reason ?? '');
  }, 'the other relay to miss the request');
  a.gossip.heal();
  await joined(b);
  await expectOnboardings(1);
});

test('onboarders that stand still, a relay killed meanwhile, and then all at once: one onboarding', async () => {
  const stopped = [a, b].map(({ node }) => node.replicator.pid!);
  for (const pid of stopped) await pause(pid);
  c = await host({ role: 'join' }, [a.gossip.url, b.gossip.url]);
  await waitsFor(c, /^an answer to /);
  await a.restartRelay();
  await c.restartRelay();
  for (const pid of stopped) resume(pid);
  await joined(c);
  await expectOnboardings(2);
  const keys = await Promise.all([a, b, c].map(async ({ node }) => (await node.status()).networkKey));
  expect(new Set(keys).size).toBe(1);
});

test("gossip handed over backwards, twice, with all of yesterday's again, and with no push getting through", async () => {
  const old = new Set<unknown>();
  const meddler = await startGossipMeddler(a.gossip.url, <Item>(items: Item[]) => {
    // Bodies that nobody asked for cost a peer its credit: of these, no old ones.
    if (typeof items[0] !== 'string') return [...items, ...items].reverse();
    for (const item of items) old.add(item);
    return ([...old, ...items] as Item[]).reverse().slice(0, 32);
  });
  const deaf = await startGossipMeddler(b.gossip.url, () => []);
  meddlers.push(meddler, deaf);
  const d = await host({ role: 'join' }, [meddler.url, deaf.url]);
  await joined(d);
  expect(meddler.seen.length).toBeGreaterThan(2);
  await expectOnboardings(3);
  for (const each of [a, b, c, d]) expect(each.relay.process.exitCode).toBeNull();
});

test('a chain that stands still, an endpoint or a guest that is gone: relay and node say so, and go on after it', async () => {
  await pause(network.anvil.pid);
  await eventually(async () => (await c.node.status()).code === 'CHAIN_UNREACHABLE', 'the node to say so');
  resume(network.anvil.pid);
  await eventually(async () => (await c.node.status()).code === undefined, 'the node to go on');

  // Only the relay's endpoint: its node has endpoints of its own.
  await c.reboot();
  c.chain.cut();
  await waitsFor(c, /RPC_UNREACHABLE/);
  c.chain.heal();
  await joined(c);
  c.guest.cut();
  await waitsFor(c, /NODE_UNREACHABLE/);
  c.guest.heal();
  await waitsFor(c, /^$/);
});

test('network.json swapped under a running node changes nothing; booted with it, the node is refused; put back, it joins', async () => {
  // The chain as the host's own endpoint shows it.
  const theirs = network.configWith({ endpoints: [b.chain.url] });
  const config = toHex(b.node.config);
  writeFileSync(join(b.node.directory, 'mnt/host_volume/network.json'), theirs);
  expect(await b.node.status()).toMatchObject({ state: 'joined', config });

  const before = (await history()).onboarded.length;
  await b.reboot({ networkJson: theirs });
  expect(toHex(b.node.config)).not.toBe(config);
  await waitsFor(b, /^an answer to /);
  await eventually(async () => {
    const said = [a, c].map(({ relay }) => relay.log()).join('');
    return said.includes('CONFIG_NOT_ALLOWED');
  }, 'an onboarder to refuse');
  expect((await b.node.status()).state).toBe('requesting');
  expect((await history()).onboarded).toHaveLength(before);

  await b.reboot({ networkJson: network.networkJson });
  await joined(b);
  await expectOnboardings(before + 1);
});
