/** Relays that exchange messages as records: alone, beside HTTP, with liars among their peers, and from some time on only. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { freePort } from '../../test/support/free-port.ts';
import {
  bootstrappedNetwork,
  Chain,
  forgedCopy,
  newRequest,
  SECRET,
  spoiledCopy,
  TestGuest,
  type TestNetwork,
} from '../../test/support/guest.ts';
import { RelayHost } from '../../test/support/relay.ts';
import { startFalsePeer } from '../gossip/false-peer.fixture.ts';
import { MessageRecords } from '../gossip/message-records.ts';
import { Liar } from '../records/wire/sockets.fixture.ts';
import { type Relay, runRelay } from './main.ts';
import type { NetworkSettings, RelaySettings } from './settings.ts';

let anvil: Anvil;
let chain: Chain;
const scratch = mkdtempSync(join(tmpdir(), 'relay-records-'));
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  anvil = await startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] });
  chain = new Chain(anvil.url);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await anvil.stop();
  rmSync(scratch, { recursive: true });
});

const LOOPBACK = '127.0.0.1';
const LISTENING: NetworkSettings['records'] = { listen: { host: LOOPBACK, port: 0 }, peers: [] };

let hosts = 0;
/** A host's settings: a gas key with money, a state directory, no peer of any kind. */
async function hostFor(network: TestNetwork, guest: TestGuest): Promise<RelaySettings> {
  const stateDir = join(scratch, `host-${hosts++}`);
  const key = newPrivateKey();
  const gasKeyFile = `${stateDir}.key`;
  writeFileSync(gasKeyFile, to0x(key), { mode: 0o600 });
  await chain.rpc('anvil_setBalance', addressOf(key), '0x8ac7230489e80000');
  return {
    rpcUrl: anvil.url,
    chainId: network.domain.chainId,
    contract: network.address,
    gasKeyFile,
    nodeUrl: guest.url,
    siteUrl: 'https://127.0.0.1:1',
    gossipListen: { host: LOOPBACK, port: 0 },
    gossipPeers: [],
    adminListen: { host: LOOPBACK, port: 0 },
    stateDir,
    confirmations: 0,
    pollMs: 100,
    maxFeeGwei: 100,
    feeBumpSeconds: 45,
    lowBalanceEth: 0.01,
    logLevel: process.env.RELAY_TEST_LOG === undefined ? 'silent' : 'debug',
  };
}

async function start(settings: RelaySettings): Promise<Relay> {
  const relay = await runRelay(settings);
  cleanups.push(() => relay.close());
  return relay;
}

async function guestOf(network: TestNetwork, state: 'joined' | 'requesting'): Promise<TestGuest> {
  const guest = await TestGuest.start(network, state);
  cleanups.push(() => guest.stop());
  return guest;
}

/** As an operator of another host has it from a relay's status. */
function addressIn(relay: Relay) {
  const [, key, port] = /^([0-9a-f]{64})@127\.0\.0\.1:(\d+)$/.exec(relay.status().recordsAddress ?? '')!;
  return { key: parseHex(key!), host: LOOPBACK, port: Number(port) };
}

const joined = async (guest: TestGuest, ...relays: { status(): unknown }[]): Promise<void> => {
  await expect
    .poll(() => ({ state: guest.state, relays: relays.map((relay) => relay.status()) }), { timeout: 120_000 })
    .toMatchObject({ state: 'joined' });
  expect(guest.secret).toEqual(SECRET);
};

test('two relays, processes of their own, bring a node in by records alone', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const port = await freePort();
  const hostOf = async (name: string, guest: TestGuest, settings: Record<string, string>) => {
    const host = await RelayHost.create({
      rpcUrl: anvil.url,
      domain: { ...network.domain, contract: network.address },
      nodeUrl: guest.url,
      stateDir: join(scratch, name),
      settings,
    });
    await chain.rpc('anvil_setBalance', host.gasAddress, '0x8ac7230489e80000');
    host.start();
    cleanups.push(() => host.kill());
    await host.serves();
    return host;
  };
  const first = await hostOf('first', old, { DSTACK_RECORDS_LISTEN: `${LOOPBACK}:${port}` });
  const { recordsAddress } = await first.status();
  expect(recordsAddress).toMatch(new RegExp(`^[0-9a-f]{64}@127.0.0.1:${port}$`));
  const second = await hostOf('second', fresh, { DSTACK_RECORDS_PEERS: recordsAddress! });
  await joined(fresh);
  const { peers } = await second.status();
  expect(peers).toEqual([{ peer: `records://127.0.0.1:${port}`, reachable: true }]);
  const metrics = await (await fetch(`${second.adminUrl}/metrics`)).text();
  expect(metrics).toMatch(/^dstack_relay_records_connections\{contract="0x[0-9a-f]{40}"\} 1$/m);
  expect(metrics).toMatch(/^dstack_relay_records_held\{contract="0x[0-9a-f]{40}"\} 3$/m);
  // What it was called by stays when it is started again.
  await first.kill();
  first.start();
  await first.serves();
  expect((await first.status()).recordsAddress).toBe(recordsAddress);
});

test('three relays, of which two know the third alone', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const middle = await start({
    ...(await hostFor(network, await guestOf(network, 'joined'))),
    // It never answers itself: its node can't be reached.
    nodeUrl: 'http://127.0.0.1:1',
    records: LISTENING,
  });
  const records = { peers: [addressIn(middle)] };
  const one = await start({ ...(await hostFor(network, old)), records });
  const other = await start({ ...(await hostFor(network, fresh)), records });
  await joined(fresh, one, middle, other);
});

test('one carrier that lies and one that is good: whichever is which', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const old = await guestOf(network, 'joined');
  const good = await start({ ...(await hostFor(network, old)), records: LISTENING });

  // By HTTP: one that announces much and gives nothing, or something else.
  const kem = await newKemKeyPair();
  const request = await newRequest(network, kem.publicKey);
  const spoiled = Array.from({ length: 20 }, (_, n) => spoiledCopy(request, n));
  const mute = await startFalsePeer({ messages: spoiled, bodies: () => undefined });
  const alters = await startFalsePeer({
    messages: spoiled,
    bodies: () => ({ messages: [{ message: forgedCopy(request, 1) }], missing: [] }),
  });
  for (const liar of [mute, alters]) cleanups.push(() => liar.close());
  const fresh = await guestOf(network, 'requesting');
  const second = await start({
    ...(await hostFor(network, fresh)),
    gossipPeers: [mute.url, alters.url],
    records: { peers: [addressIn(good)] },
  });
  await joined(fresh, good, second);

  // By records: peers that flood with what is spoiled, withhold what they announce, alter it, and send the old again.
  const another = await guestOf(network, 'requesting');
  const host = await hostFor(network, another);
  const third = await start({ ...host, gossipPeers: [good.gossipUrl], records: LISTENING });
  const stop = lieTo(network, addressIn(third).port, [...spoiled, request]);
  await joined(another, good, third);
  await stop();
}, 240_000);

/** Peers that connect again and again, each with a new key, and lie for as long as they are listened to. */
function lieTo(network: TestNetwork, port: number, messages: Awaited<ReturnType<typeof newRequest>>[]) {
  const records = new MessageRecords({ ...network.domain, contract: network.address });
  let isOver = false;
  let keys = 0;
  const ids = messages.map((message) => records.of(message).id);
  const lies: ((liar: Liar) => Promise<void>)[] = [
    // Announces and gives nothing.
    async (liar) => {
      liar.say({ kind: 'announce', ids });
      for (;;) await liar.hear();
    },
    // Gives what it was asked for, all of it of no use; and then again, unasked.
    async (liar) => {
      liar.say({ kind: 'announce', ids });
      const { ids: wanted } = await liar.hearUntil('want');
      const bodies = wanted.map((id) => records.encode(messages[ids.indexOf(id)]!));
      for (const body of [...bodies, ...bodies]) liar.say({ kind: 'records', records: [body] });
      for (;;) await liar.hear();
    },
    // Gives another record under the name.
    async (liar) => {
      liar.say({ kind: 'announce', ids });
      await liar.hearUntil('want');
      liar.say({ kind: 'records', records: [records.encode(forgedCopy(messages[0]!, keys))] });
      for (;;) await liar.hear();
    },
  ];
  const lying = lies.map(async (lie) => {
    while (!isOver) {
      keys += 1;
      const label = `liar ${keys}`;
      await Liar.at(port, records.network, label)
        .then(lie, () => {})
        .catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  });
  return async () => {
    isOver = true;
    await Promise.race([Promise.all(lying), new Promise((resolve) => setTimeout(resolve, 1_000))]);
  };
}

test('no carrier at the start, and one that is added later', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const settings = [await hostFor(network, old), await hostFor(network, fresh)] as const;
  const alone = [await start(settings[0]), await start(settings[1])] as const;
  await expect.poll(() => registrations(network)).toBe(1);
  expect(fresh.state).toBe('requesting');
  await Promise.all(alone.map((relay) => relay.close()));

  const one = await start({ ...settings[0], records: LISTENING });
  const other = await start({ ...settings[1], records: { peers: [addressIn(one)] } });
  await joined(fresh, one, other);
  // The request is the one of before: it was in the log, whatever carries it.
  expect(await registrations(network)).toBe(1);
});

async function registrations(network: TestNetwork): Promise<number> {
  const filter = { address: network.address, fromBlock: '0x0', topics: [networkTopics.Registered] };
  return (await chain.rpc<unknown[]>('eth_getLogs', filter)).length;
}
