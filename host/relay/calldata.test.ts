import { beforeAll, expect, test } from 'vitest';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { chainHex } from '../../lib/protocol/hex.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { requestOf } from '../../lib/protocol/onboarding-messages.ts';
import {
  decodePublish,
  encodePublish,
  publicationsAddress,
  publicationsDeployer,
  publicationsDeployment,
  publishedTopic,
} from '../../lib/protocol/publications-contract.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
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
import { decodeMessage, encodeMessage } from '../gossip/calldata/message-bytes.ts';
import { startFalsePeer } from '../gossip/false-peer.fixture.ts';
import type { Relay } from './main.ts';
import { RelayTests } from './relays.fixture.ts';

const relays = new RelayTests('relay-calldata-');
const { guestOf, start } = relays;
let chain: Chain;
beforeAll(() => {
  chain = relays.chain;
});

const hostFor = (network: TestNetwork, guest: TestGuest, after?: number) =>
  relays.hostFor(network, guest, after === undefined ? {} : { calldata: { after } });

const joined = async (guest: TestGuest, ...relays: { status(): unknown }[]): Promise<void> => {
  await expect
    .poll(() => ({ state: guest.state, relays: relays.map((relay) => relay.status()) }), { timeout: 120_000 })
    .toMatchObject({ state: 'joined' });
  expect(guest.secret).toEqual(SECRET);
};

interface RawLog {
  readonly topics: readonly string[];
  readonly blockNumber: string;
  readonly transactionHash: string;
}

/** Publications about the requests of a network: by whom, and what. */
async function published(network: TestNetwork): Promise<{ by: string; block: number; input: string }[]> {
  const range = { fromBlock: '0x0' };
  const registered = { ...range, address: network.address, topics: [networkTopics.Registered] };
  const requests = await chain.rpc<RawLog[]>('eth_getLogs', registered);
  if (requests.length === 0) return [];
  const subjects = [...new Set(requests.map(({ topics }) => topics[1]!))];
  const filter = { ...range, address: publicationsAddress, topics: [[publishedTopic], subjects] };
  const logs = await chain.rpc<RawLog[]>('eth_getLogs', filter);
  return Promise.all(
    logs.map(async ({ topics, blockNumber, transactionHash }) => {
      const { input } = await chain.rpc<{ input: string }>('eth_getTransactionByHash', transactionHash);
      return { by: `0x${topics[2]!.slice(-40)}`, block: Number(blockNumber), input };
    }),
  );
}

/** What a host has paid for, by type; a request with all its parts is another message than the one without. */
async function paid(network: TestNetwork, payer: string): Promise<string[]> {
  const own = (await published(network)).filter(({ by }) => by === payer.toLowerCase());
  const sent = own.map(({ input }) => decodeMessage(decodePublish(input).message));
  return sent.map(({ message, without }) => {
    const { type, collateral } = message as { type: string; collateral?: unknown };
    return `${type}${collateral === undefined ? '' : ' with collateral'}${without === undefined ? '' : ' without'}`;
  });
}

/** The request once, if nobody answered in time also with all its parts; nothing else. */
async function expectPaid(network: TestNetwork, joiner: string, answerer: string): Promise<void> {
  expect(await paid(network, answerer)).toEqual(['answer', 'sealed']);
  const [first, ...others] = await paid(network, joiner);
  expect(first).toMatch(/^request( without)?$/);
  expect([[], ['request with collateral']]).toContainEqual(others);
}

const payerOf = (relay: Relay): string => relay.status().gasAddress;

test('two relays, processes of their own, bring a node in by calldata alone; who is killed on the way pays once', async () => {
  const network = await bootstrappedNetwork(chain, 100);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const hostOf = (name: string, { url }: TestGuest) =>
    relays.processOf(network, name, url, { DSTACK_CALLDATA_AFTER: '0' });
  const second = await hostOf('second', fresh);
  second.start();
  // Nobody is there to read it yet.
  await expect.poll(() => published(network), { timeout: 60_000 }).toHaveLength(1);
  await second.kill();
  second.start();
  const first = await hostOf('first', old);
  first.start();
  await joined(fresh);
  await expectPaid(network, second.gasAddress, first.gasAddress);
  const metrics = await (await fetch(`${first.adminUrl}/metrics`)).text();
  expect(metrics).toMatch(/^dstack_relay_calldata_read\{contract="0x[0-9a-f]{40}"\} [12]$/m);
  expect(metrics).toMatch(/^dstack_relay_calldata_sent\{contract="0x[0-9a-f]{40}"\} 2$/m);
  expect(first.log()).toContain('publishing answer as calldata, for about');
});

test('peers that lie by HTTP, and calldata beside them', async () => {
  const network = await bootstrappedNetwork(chain, 100);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const kem = await newKemKeyPair();
  const request = await newRequest(network, kem.publicKey);
  const spoiled = Array.from({ length: 20 }, (_, nth) => spoiledCopy(request, nth));
  const mute = await startFalsePeer({ messages: spoiled, bodies: () => undefined });
  const alters = await startFalsePeer({
    messages: spoiled,
    bodies: () => ({ messages: [{ message: forgedCopy(request, 1) }], missing: [] }),
  });
  for (const liar of [mute, alters]) relays.cleanups.push(() => liar.close());
  const gossipPeers = [mute.url, alters.url];
  const one = await start({ ...(await hostFor(network, old, 2)), gossipPeers });
  const other = await start({ ...(await hostFor(network, fresh, 2)), gossipPeers });
  await joined(fresh, one, other);
  await expectPaid(network, payerOf(other), payerOf(one));
});

test('where a peer brings the answer in time nothing is paid for', async () => {
  const network = await bootstrappedNetwork(chain, 100);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const one = await start(await hostFor(network, old, 60));
  const other = await start({ ...(await hostFor(network, fresh, 60)), gossipPeers: [one.gossipUrl] });
  await joined(fresh, one, other);
  expect(await published(network)).toEqual([]);
});

test('no carrier at the start, and calldata added later', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const settings = [await hostFor(network, old), await hostFor(network, fresh)] as const;
  const alone = [await start(settings[0]), await start(settings[1])] as const;
  await expect.poll(() => alone[0].status().requests.length, { timeout: 60_000 }).toBe(1);
  expect(fresh.state).toBe('requesting');
  await Promise.all(alone.map((relay) => relay.close()));

  const calldata = { after: 0 };
  const one = await start({ ...settings[0], calldata });
  const other = await start({ ...settings[1], calldata });
  await joined(fresh, one, other);
  await expectPaid(network, payerOf(other), payerOf(one));
});

test('what spammers publish about an open request is read by and by, is of no use, and keeps nobody out', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  await ensurePublications();
  const { calldata: _, ...without } = await hostFor(network, fresh, 0);
  const before = await start(without);
  await expect.poll(() => openRequest(network), { timeout: 60_000 }).toBeDefined();
  const subject = (await openRequest(network))!;
  const kem = await newKemKeyPair();
  const other = await newRequest(network, kem.publicKey);
  const junk = [
    encodePublish({ subject, message: to0x(new Uint8Array(64)) }),
    // Good in itself, and about something else.
    encodePublish({ subject, message: encodeMessage({ message: other }) }),
    // Of no open request: the endpoint is not even asked about it.
    encodePublish({ subject: chainHex(requestOfHash(other)), message: encodeMessage({ message: other }) }),
  ];
  const [, , ...spammers] = await chain.rpc<string[]>('eth_accounts');
  for (const [nth, from] of [...spammers, ...spammers].entries())
    await chain.rpc('eth_sendTransaction', { from, to: publicationsAddress, data: junk[nth % 3] });
  await expect.poll(() => published(network), { timeout: 60_000 }).not.toHaveLength(0);
  await before.close();

  const one = await start(await hostFor(network, old, 0));
  const again = await start({ ...without, calldata: { after: 0 } });
  await joined(fresh, one, again);
  const metrics = await (await fetch(`${one.adminUrl}/metrics`)).text();
  const count = (code: string) =>
    Number(
      new RegExp(`^dstack_relay_gossip_charged_total\\{.*code="${code}".*\\} (\\d+)$`, 'm').exec(
        metrics,
      )?.[1] ?? 0,
    );
  expect(count('CALLDATA_MALFORMED')).toBeGreaterThan(0);
  expect(count('CALLDATA_OTHER')).toBeGreaterThan(0);
  expect(metrics).not.toMatch(/gossip_refused_total/);
  await expectPaid(network, payerOf(again), payerOf(one));
});

test('a re-organisation drops a publication: it is sent again, and once', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  await ensurePublications();
  const other = await start(await hostFor(network, fresh, 0));
  await expect.poll(() => published(network), { timeout: 60_000 }).toHaveLength(1);
  const { block } = (await published(network))[0]!;
  await chain.rpc('anvil_reorg', (await chain.head()).number - block + 1, []);
  expect(await published(network)).toEqual([]);
  await expect.poll(() => published(network), { timeout: 60_000 }).toHaveLength(1);
  const one = await start(await hostFor(network, old, 0));
  await joined(fresh, one, other);
  await expectPaid(network, payerOf(other), payerOf(one));
});

/** The contract that is published by, whoever creates it. */
async function ensurePublications(): Promise<void> {
  const [from] = await chain.rpc<string[]>('eth_accounts');
  await chain.rpc('eth_sendTransaction', {
    from,
    to: publicationsDeployer,
    data: publicationsDeployment,
    gas: '0x7a120',
  });
  await expect
    .poll(() => chain.rpc('eth_getCode', publicationsAddress, 'latest'), { timeout: 60_000 })
    .not.toBe('0x');
}

async function openRequest(network: TestNetwork) {
  const filter = { address: network.address, fromBlock: '0x0', topics: [networkTopics.Registered] };
  const [log] = await chain.rpc<{ topics: ReturnType<typeof to0x>[] }[]>('eth_getLogs', filter);
  return log?.topics[1];
}

const requestOfHash = (request: Parameters<typeof requestOf>[0]) => toHex(requestOf(request).hash);
