/** Point 13: no message from a peer stops a relay, and a latecomer sees earlier messages. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { startFalsePeer } from '../../host/gossip/false-peer.fixture.ts';
import { idOf } from '../../host/gossip/message-kind.ts';
import { RelayTests } from '../../host/relay/relays.fixture.ts';
import { registerCall } from '../../lib/protocol/onboarding-calls.ts';
import { nodePaths, type RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import {
  bootstrappedNetwork,
  type Chain,
  newRequest,
  type TestGuest,
  type TestNetwork,
} from '../support/guest.ts';
import { eventually } from '../support/network.ts';
import { startRelay } from '../support/relay.ts';

const relays = new RelayTests('dstack-trust-gossip-');
const { cleanups, guestOf, scratch } = relays;
let chain: Chain;
beforeAll(() => {
  chain = relays.chain;
});

async function relayOf(network: TestNetwork, guest: TestGuest, peers: string[] = []) {
  const stateDir = mkdtempSync(join(scratch, 'relay-'));
  const relay = await startRelay({ chain, rpcUrl: relays.rpcUrl, network, guest, stateDir, peers });
  cleanups.push(() => relay.kill());
  return relay;
}

/** A request that is open on chain. */
async function openRequest(network: TestNetwork): Promise<RequestMessage> {
  const request = await newRequest(network, (await newKemKeyPair()).publicKey);
  await network.asStranger(registerCall(request));
  return request;
}

/** Messages that must not stop a relay. */
const bad = (good: RequestMessage): unknown[] => [
  null,
  0,
  'hello',
  [[]],
  {},
  { type: 'request' },
  { type: '__proto__' },
  { ...good, kemPublicKey: 'zz' },
  { ...good, blockNumber: -1 },
  { ...good, blockNumber: Number.MAX_VALUE },
  { ...good, signature: null },
  { ...good, signature: { r: `0x${'00'.repeat(32)}`, vs: `0x${'ff'.repeat(32)}` } },
  { ...good, chainId: 1 },
  { ...good, quote: '00'.repeat(16 * 1024 + 1) },
  { ...good, type: 'answer' },
  JSON.parse('{"type":"request","__proto__":{"type":"answer"},"toString":1}'),
];

/** A peer that announces all of these and sends what is asked for, and things besides that are no messages. */
async function hostilePeer(messages: unknown[]): Promise<string> {
  const peer = await startFalsePeer({
    messages,
    bodies: (ids) => {
      const asked = messages.filter((message) => ids.includes(idOf(message) ?? ''));
      return { messages: [null, [[]], ...asked].slice(0, 16).map((message) => ({ message })), missing: [] };
    },
  });
  cleanups.push(() => peer.close());
  return peer.url;
}

test("13: a peer's bad messages, polled with a good one behind them: the good one is answered", async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const guest = await guestOf(network, 'joined');
  const good = await openRequest(network);
  const relay = await relayOf(network, guest, [await hostilePeer([...bad(good), good])]);
  await eventually(
    async () => guest.asked.includes(nodePaths.onboard),
    'the good request to reach the node',
    10_000,
  );
  expect(relay.process.exitCode).toBeNull();
  expect((await fetch(`${relay.adminUrl}/healthz`)).status).toBe(200);
});

test('13: bad messages pushed, from JSON that is none to a flood, stop nothing', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const guest = await guestOf(network, 'joined');
  const relay = await relayOf(network, guest);
  const good = await openRequest(network);
  const push = async (body: string): Promise<number> => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${relay.gossipUrl}/v1/gossip`, { method: 'POST', headers, body });
    return response.status;
  };
  for (const text of ['', '{', '[', '\u0000', '"', `"${'x'.repeat(200_000)}"`]) {
    expect(await push(text), text.slice(0, 10)).toBeGreaterThanOrEqual(400);
  }
  for (const message of bad(good)) {
    const status = await push(JSON.stringify(message));
    expect([400, 413, 422, 429], JSON.stringify(message).slice(0, 80)).toContain(status);
  }
  expect(relay.process.exitCode).toBeNull();
  expect(await push(JSON.stringify(good))).toBe(200);
  await eventually(async () => guest.asked.includes(nodePaths.onboard), 'the good request', 60_000);
});

test('13: a relay that starts after a request was made, registered and gossiped still answers it', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const first = await relayOf(network, fresh);
  await eventually(async () => {
    const held = (await (await fetch(`${first.gossipUrl}/v1/gossip`)).json()) as { messages: unknown[] };
    return held.messages.length > 0;
  }, 'the request to be gossiped');
  await chain.mine(3);
  await relayOf(network, old, [first.gossipUrl]);
  await eventually(async () => fresh.state === 'joined', 'the node to join', 120_000);
});
