import { beforeAll, expect, test } from 'vitest';
import { parseHex } from '../../lib/protocol/hex.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { freePort } from '../../test/support/free-port.ts';
import {
  bootstrappedNetwork,
  type Chain,
  forgedCopy,
  newRequest,
  SECRET,
  spoiledCopy,
  type TestGuest,
  type TestNetwork,
} from '../../test/support/guest.ts';
import { startFalsePeer } from '../gossip/false-peer.fixture.ts';
import { MessageRecords } from '../gossip/message-records.ts';
import { Liar } from '../records/wire/sockets.fixture.ts';
import type { Relay } from './main.ts';
import { RelayTests } from './relays.fixture.ts';
import type { NetworkSettings } from './settings.ts';

const relays = new RelayTests('relay-records-');
const { guestOf, hostFor, start } = relays;
let chain: Chain;
beforeAll(() => {
  chain = relays.chain;
});

const LOOPBACK = '127.0.0.1';
const LISTENING: NetworkSettings['records'] = { listen: { host: LOOPBACK, port: 0 }, peers: [] };

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
  const hostOf = async (name: string, { url }: TestGuest, settings: Record<string, string>) => {
    const host = await relays.processOf(network, name, url, settings);
    host.start();
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
  for (const liar of [mute, alters]) relays.cleanups.push(() => liar.close());
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
