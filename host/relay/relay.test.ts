import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { imageOf, layerOf, tar } from '../../lib/archives/images.fixture.ts';
import { openStore } from '../../lib/framework/store.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appId, formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { encodeRollout, networkTopics } from '../../lib/protocol/network-contract.ts';
import { onboardCall, registerCall } from '../../lib/protocol/onboarding-calls.ts';
import { nodePaths, type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import {
  bootstrappedNetwork,
  type Chain,
  forgedCopy,
  newAnswer,
  newRequest,
  newSealed,
  SECRET,
  spoiledCopy,
  type TestGuest,
  TestNetwork,
} from '../../test/support/guest.ts';
import { type Relay, runRelay } from './main.ts';
import { RelayTests } from './relays.fixture.ts';
import type { RelaySettings } from './settings.ts';

const relays = new RelayTests('relay-test-');
const { cleanups, guestOf, scratch, start } = relays;
let chain: Chain;
beforeAll(() => {
  chain = relays.chain;
});

const hostFor = (network: TestNetwork, guest: TestGuest, gossipPeers: string[] = []) =>
  relays.hostFor(network, guest, { gossipPeers });

/** The relay as its own process, so that it can be killed. */
function spawnRelay(host: RelaySettings): { said: string[]; kill(): Promise<void> } {
  const said: string[] = [];
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'main.ts'), '--key-file', host.gasKeyFile],
    {
      env: {
        DSTACK_RPC_URL: host.rpcUrl,
        DSTACK_CHAIN_ID: String(host.chainId),
        DSTACK_CONTRACT: host.contract,
        DSTACK_NODE_URL: host.nodeUrl,
        DSTACK_SITE_URL: host.siteUrl,
        DSTACK_STATE_DIR: host.stateDir,
        DSTACK_GOSSIP_LISTEN: '127.0.0.1:0',
        DSTACK_ADMIN_LISTEN: '127.0.0.1:0',
        DSTACK_CONFIRMATIONS: String(host.confirmations),
        DSTACK_POLL_MS: String(host.pollMs),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => said.push(...chunk.toString().trim().split('\n')));
  }
  const kill = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
  };
  cleanups.push(kill);
  return { said, kill };
}

/** Polls until it holds; fails with what was seen last. */
async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  seen: () => unknown = () => '',
): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not within 120 s: ${what}; ${JSON.stringify(seen())}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const transactionsOf = async (address: string): Promise<number> =>
  Number(await chain.rpc<string>('eth_getTransactionCount', address, 'latest'));

async function eventsOf(network: TestNetwork, name: 'Registered' | 'Onboarded'): Promise<number> {
  const filter = { address: network.address, fromBlock: '0x0', topics: [networkTopics[name]] };
  return (await chain.rpc<unknown[]>('eth_getLogs', filter)).length;
}

const post = (url: string, body: unknown) =>
  fetch(`${url}/v1/gossip`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

test('two relays bring a second node into the network, with one transaction for each purpose', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const first = await start(await hostFor(network, old));
  const host = await hostFor(network, fresh, [first.gossipUrl]);
  const second = await start(host);

  await until(
    'joined',
    () => fresh.state === 'joined',
    () => [first.status(), second.status()],
  );
  expect(fresh.secret).toEqual(SECRET);
  await until('nothing left to wait for', () => second.status().waitingFor === '');
  expect(await transactionsOf(host.gas)).toBe(2);
  expect(await eventsOf(network, 'Registered')).toBe(1);
  expect(await eventsOf(network, 'Onboarded')).toBe(1);
  for (const path of [nodePaths.onboard, nodePaths.sealed])
    expect(old.asked.filter((asked) => asked === path)).toHaveLength(1);

  // Both hosts have what an audit reads, and serve it.
  await until('records', () => readdirSync(join(host.stateDir, 'archive')).length === 2);
  const { records } = (await (await fetch(`${second.gossipUrl}/v1/records`)).json()) as { records: string[] };
  expect(records.map((name) => name.split('-')[0])).toEqual(['answer', 'request']);
  const request = (await (
    await fetch(`${second.gossipUrl}/v1/records/${records[1]}`)
  ).json()) as RequestMessage;
  expect(records[1]).toContain(toHex(requestOf(request).hash));
  expect((await fetch(`${second.gossipUrl}/v1/records/..%2f..%2frelay.sqlite`)).status).toBe(404);

  // The node may have its answer a moment before the relay has seen the receipt.
  await until('the receipt', () => second.status().transactions.every(({ state }) => state !== 'sent'));
  const metrics = await (await fetch(`${second.adminUrl}/metrics`)).text();
  expect(metrics).toMatch(/^dstack_relay_node_joined\{contract="0x[0-9a-f]{40}"\} 1$/m);
  expect(metrics).toMatch(
    /^dstack_relay_transactions_sent_total\{account="0x[0-9a-f]{40}",chain="31337",kind="register"\} 1$/m,
  );
  expect(metrics).toMatch(
    /^dstack_relay_gas_used_total\{account="0x[0-9a-f]{40}",chain="31337",kind="onboard"\} \d{5}$/m,
  );
  expect((await fetch(`${second.adminUrl}/healthz`)).status).toBe(200);
  // The operator's routes are not on the peers' listener.
  expect((await fetch(`${second.gossipUrl}/v1/status`)).status).toBe(404);
});

test("what the owner rolled out gets from one host's volume to another's, by their relays", async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const { digest, items } = imageOf([layerOf('a layer')]);
  const image = `sha256:${digest}`;
  const manifest = formatManifest({ version: 1, app: 'greeting', containers: [{ name: 'web', image }] });
  const files = {
    [`manifests/${toHex(manifestHash(manifest))}.json`]: manifest,
    [`archives/${digest}.tar`]: await tar(items),
  };
  const [from, to] = [join(scratch, 'volume-from'), join(scratch, 'volume-to')];
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(from, name)), { recursive: true });
    writeFileSync(join(from, name), bytes);
  }
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const first = await start({
    ...(await hostFor(network, old)),
    appFiles: { volume: from, fetch: false },
  });
  await start({
    ...(await hostFor(network, fresh, [first.gossipUrl])),
    appFiles: { volume: to, fetch: true },
  });
  const app = to0x(appId('greeting'));
  await network.asOwner(encodeRollout({ app, manifestHash: to0x(manifestHash(manifest)) }));
  const has = () => Object.keys(files).every((name) => existsSync(join(to, name)));
  await until('there', has, () => readdirSync(scratch));
  for (const [name, bytes] of Object.entries(files))
    expect(readFileSync(join(to, name)).equals(Buffer.from(bytes))).toBe(true);
});

test('a relay that is killed between register and onboard goes on where it was, and a late one gets the backlog', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  // Nobody can answer yet: the requester's relay is alone.
  const host = await hostFor(network, fresh);
  const before = spawnRelay(host);
  await until(
    'registered',
    async () => (await eventsOf(network, 'Registered')) === 1,
    () => before.said,
  );
  await before.kill();

  // The answering relay starts even later, and knows the requester's only as a peer.
  const after = await start(host);
  const late = await start(await hostFor(network, old, [after.gossipUrl]));
  await until(
    'joined',
    () => fresh.state === 'joined',
    () => [after.status(), late.status()],
  );
  expect(fresh.secret).toEqual(SECRET);
  expect(await transactionsOf(host.gas)).toBe(2);
  expect(await eventsOf(network, 'Registered')).toBe(1);
});

test("an answer that survived only in the requester's store is posted after a crash, and another node than its giver seals", async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const first = await start(await hostFor(network, old));
  const host = await hostFor(network, fresh, [first.gossipUrl]);
  // Without money it can post nothing: the answer arrives, is stored, and waits.
  const alone = await start({ ...host, gossipPeers: [] });
  await until('registered', async () => (await eventsOf(network, 'Registered')) === 1);
  await alone.close();
  await chain.rpc('anvil_setBalance', host.gas, '0x0');
  const before = await start(host);
  await until(
    'answered',
    () => before.status().waitingFor.startsWith('onboard of'),
    () => before.status(),
  );
  await Promise.all([before.close(), first.close()]);
  await old.stop();
  expect(await eventsOf(network, 'Onboarded')).toBe(0);

  // Gossip has forgotten it meanwhile, and the node that answered is gone for good.
  const store = openStore(join(host.stateDir, 'relay.sqlite'));
  for (const { key } of store.list('gossip/')) store.delete(key);
  store.close();
  await chain.rpc('anvil_setBalance', host.gas, '0x8ac7230489e80000');
  const other = await guestOf(network, 'joined');
  const after = await start({ ...host, gossipPeers: [] });
  const second = await start(await hostFor(network, other, [after.gossipUrl]));
  await until(
    'joined',
    () => fresh.state === 'joined',
    () => [after.status(), second.status()],
  );
  expect(fresh.secret).toEqual(SECRET);
  expect(await transactionsOf(host.gas)).toBe(2);
  expect([old.asked, other.asked].map((asked) => asked.includes(nodePaths.sealed))).toEqual([false, true]);
});

test('bad gossip is refused with a code, and the relay goes on', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const relay = await start(await hostFor(network, await guestOf(network, 'joined')));
  const kem = await newKemKeyPair();
  const good = await newRequest(network, kem.publicKey);
  const refusal = async (body: unknown): Promise<unknown> => {
    const response = await post(relay.gossipUrl, body);
    return response.status === 200 ? 'accepted' : ((await response.json()) as { code: string }).code;
  };

  expect(await refusal({ ...good, signature: (await newRequest(network, kem.publicKey)).signature })).toBe(
    'GOSSIP_SIGNATURE',
  );
  expect(await refusal({ ...good, chainId: 1 })).toBe('GOSSIP_OTHER_NETWORK');
  expect(await refusal({ ...good, contract: addressOf(newPrivateKey()) })).toBe('GOSSIP_OTHER_NETWORK');
  expect(await refusal({ ...good, surprise: 1 })).toBe('GOSSIP_MALFORMED');
  expect(await refusal({ ...good, quote: 'zz' })).toBe('GOSSIP_MALFORMED');
  expect(await refusal([null])).toBe('GOSSIP_MALFORMED');
  expect(await refusal({ type: 'answer', __proto__: null })).toBe('GOSSIP_MALFORMED');
  expect(await refusal({ ...good, quote: '00'.repeat(80_000) })).toBe('HTTP_REQUEST');
  expect(await refusal(await newAnswer(network.domain, good, newPrivateKey()))).toBe('GOSSIP_SIGNATURE');
  const text = await fetch(`${relay.gossipUrl}/v1/gossip`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"type":',
  });
  expect(text.status).toBe(400);
  expect((await fetch(`${relay.gossipUrl}/v1/gossip?after=-1`)).status).toBe(400);

  expect(await refusal(good)).toBe('accepted');
  const held = (await (await fetch(`${relay.gossipUrl}/v1/gossip`)).json()) as { messages: unknown[] };
  expect(held.messages).toEqual([good]);
  expect(await (await fetch(`${relay.adminUrl}/metrics`)).text()).toMatch(
    /^dstack_relay_gossip_refused_total\{contract="0x[0-9a-f]{40}",code="GOSSIP_SIGNATURE"\} 2$/m,
  );
});

test("an answer that the network's key did not sign is never posted, nor one from our own node gossiped", async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const [old, fresh] = [await guestOf(network, 'joined'), await guestOf(network, 'requesting')];
  const thief = newPrivateKey();
  old.onboards = (request) => newAnswer(network.domain, request, thief);
  const first = await start(await hostFor(network, old));
  const host = await hostFor(network, fresh, [first.gossipUrl]);
  const second = await start(host);

  await until(
    'the node was asked',
    () => old.asked.includes(nodePaths.onboard),
    () => first.status(),
  );
  await until(
    'given up',
    () => first.status().requests.length === 0,
    () => first.status(),
  );
  const { messages } = (await (await fetch(`${first.gossipUrl}/v1/gossip`)).json()) as {
    messages: RequestMessage[];
  };
  expect(messages.map(({ type }) => type)).toEqual(['request']);
  expect(
    await (await post(second.gossipUrl, await newAnswer(network.domain, messages[0]!, thief))).json(),
  ).toMatchObject({
    code: 'GOSSIP_SIGNATURE',
  });
  await until(
    'it goes on waiting',
    () => second.status().waitingFor.startsWith('an answer to '),
    () => second.status(),
  );
  expect(await transactionsOf(host.gas)).toBe(1);
});

async function register(network: TestNetwork, message: RequestMessage): Promise<void> {
  await network.asStranger(registerCall(message));
}

async function isAnswered(relay: Relay, message: RequestMessage): Promise<boolean> {
  const reply = await fetch(`${relay.gossipUrl}/v1/gossip`);
  const { messages } = (await reply.json()) as { messages: { type: string; requestHash?: string }[] };
  const hash = toHex(requestOf(message).hash);
  return messages.some(({ type, requestHash }) => type === 'answer' && requestHash === hash);
}

/** A first node that answers nothing but this very request. */
async function judgeOf(network: TestNetwork, good: RequestMessage): Promise<TestGuest> {
  const guest = await guestOf(network, 'joined');
  const answers = guest.onboards;
  guest.onboards = async (request) => {
    if (request.quote !== good.quote)
      throw new DstackError('QUOTE_SIGNATURE', "the quote's signature is wrong");
    return answers(request);
  };
  return guest;
}

test("a copy with its quote's signature spoiled is refused at the door, and takes no place", async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const good = await newRequest(network, (await newKemKeyPair()).publicKey);
  const old = await judgeOf(network, good);
  const relay = await start(await hostFor(network, old));
  await register(network, good);
  for (let n = 0; n < 12; n += 1) {
    expect(await (await post(relay.gossipUrl, spoiledCopy(good, n))).json()).toMatchObject({
      code: 'GOSSIP_QUOTE',
    });
  }
  expect(old.asked).not.toContain(nodePaths.onboard);
  expect((await post(relay.gossipUrl, good)).status).toBe(200);
  await until(
    'answered',
    () => isAnswered(relay, good),
    () => [relay.status(), old.asked],
  );
  expect(old.asked.filter((path) => path === nodePaths.onboard)).toHaveLength(1);
});

test('copies that only the node can refuse, judged first and more than there are places, end nothing', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const good = await newRequest(network, (await newKemKeyPair()).publicKey);
  const old = await judgeOf(network, good);
  const relay = await start(await hostFor(network, old));
  await register(network, good);
  const judged = () => old.asked.filter((path) => path === nodePaths.onboard).length;
  expect((await post(relay.gossipUrl, forgedCopy(good, 0))).status).toBe(200);
  await until(
    'the first is refused, and another one waited for',
    () => relay.status().requests.some(({ reason }) => /another copy of request/.test(reason)),
    () => relay.status(),
  );
  expect(judged()).toBe(1);
  for (let n = 0; n < 12; n += 1) {
    const { status } = await post(relay.gossipUrl, forgedCopy(good, n));
    expect(status).toBe(200);
    await until(
      'it is judged, once',
      () => judged() === Math.max(1, n + 1),
      () => [judged(), relay.status()],
    );
  }
  expect((await post(relay.gossipUrl, good)).status).toBe(200);
  await until(
    'answered',
    () => isAnswered(relay, good),
    () => [relay.status(), old.asked],
  );
  expect(judged()).toBe(13);
});

test('one address does not hold the gossip port, whatever it keeps open', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const relay = await start(await hostFor(network, await guestOf(network, 'joined')));
  const { port } = new URL(relay.gossipUrl);
  const sockets = Array.from({ length: 600 }, (_, n) => {
    const socket = connect({ port: Number(port), host: '127.0.0.1', localAddress: '127.0.0.2' });
    socket
      .resume()
      .on('error', () => {})
      .on('connect', () => socket.write(`GET /v1/gossip?wait=${n % 20} HTTP/1.1\r\n`));
    return socket;
  });
  try {
    await until(
      'all but a few are cut off',
      () => sockets.filter(({ closed }) => !closed).length <= 16,
      () => sockets.filter(({ closed }) => !closed).length,
    );
    const reply = await fetch(`${relay.gossipUrl}/v1/gossip`, { signal: AbortSignal.timeout(60_000) });
    expect(reply.status).toBe(200);
    // What never becomes a request is not kept for ever either.
    await until(
      'the rest are',
      () => sockets.every(({ closed }) => closed),
      () => sockets.filter(({ closed }) => !closed).length,
    );
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}, 300_000);

test('when somebody else posts the answer, the node gets that one and nothing is paid twice', async () => {
  const network = await bootstrappedNetwork(chain, 200);
  const fresh = await guestOf(network, 'requesting');
  const host = await hostFor(network, fresh);
  const relay = await start(host);
  await until(
    'registered',
    async () => (await eventsOf(network, 'Registered')) === 1,
    () => relay.status(),
  );
  const { messages } = (await (await fetch(`${relay.gossipUrl}/v1/gossip`)).json()) as {
    messages: RequestMessage[];
  };
  const answer = await newAnswer(network.domain, messages[0]!);
  await network.asStranger(onboardCall(answer));
  await until(
    'it waits for the bytes',
    () => relay.status().waitingFor.includes('to arrive by gossip'),
    () => relay.status(),
  );
  // The bytes alone will do: the contract vouches for them.
  const sealed = await newSealed(network.domain, messages[0]!);
  const other = { ...sealed, sealed: '00'.repeat(1168) };
  expect(await (await post(relay.gossipUrl, other)).json()).toMatchObject({ code: 'GOSSIP_SEALED' });
  expect((await post(relay.gossipUrl, sealed)).status).toBe(200);
  await until(
    'joined',
    () => fresh.state === 'joined',
    () => relay.status(),
  );
  expect(await transactionsOf(host.gas)).toBe(1);
});

test('a request that nobody answers is made anew after it expired', async () => {
  const network = await bootstrappedNetwork(chain, 2);
  const fresh = await guestOf(network, 'requesting');
  const host = await hostFor(network, fresh);
  const relay = await start(host);
  await until(
    'a second request',
    async () => (await eventsOf(network, 'Registered')) >= 2,
    () => relay.status(),
  );
  expect(await eventsOf(network, 'Onboarded')).toBe(0);
});

test('a bootstrap package becomes a file for the owner', async () => {
  const network = await TestNetwork.deploy(chain);
  const host = await hostFor(network, await guestOf(network, 'bootstrapping'));
  const relay = await start(host);
  await until(
    'stored',
    () => relay.status().waitingFor.includes('network bootstrap'),
    () => relay.status(),
  );
  // The newest under a name of its own, each version for ever.
  const names = readdirSync(join(host.stateDir, 'archive')).sort();
  expect(
    names.map((name) => name.replace(/0x[0-9a-f]{40}/, 'KEY').replace(/-[0-9a-f]{16}\./, '-VERSION.')),
  ).toContain('bootstrap-KEY-VERSION.json');
  const name = names.find((candidate) => /^bootstrap-0x[0-9a-f]{40}\.json$/.test(candidate));
  expect(relay.status().waitingFor).toContain(join(host.stateDir, 'archive', name!));
  expect(JSON.parse(readFileSync(join(host.stateDir, 'archive', name!), 'utf8'))).toMatchObject({
    type: 'bootstrap',
    epoch: 1,
  });
  expect(await transactionsOf(host.gas)).toBe(0);
});

test("a state directory is one relay's at a time", async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const host = await hostFor(network, await guestOf(network, 'joined'));
  await start(host);
  await expect(start(host)).rejects.toMatchObject({ code: 'STORE_OPEN' });
});

test('one relay serves two networks with one gas key: one nonce manager, and nothing of one reaches the other', async () => {
  const [one, two] = [await bootstrappedNetwork(chain, 200), await bootstrappedNetwork(chain, 200)];
  // Another host, alone, has both networks' first nodes; this one joins both.
  const [oldOne, oldTwo] = [await guestOf(one, 'joined'), await guestOf(two, 'joined')];
  const [first, second] = [await start(await hostFor(one, oldOne)), await start(await hostFor(two, oldTwo))];
  const [freshOne, freshTwo] = [await guestOf(one, 'requesting'), await guestOf(two, 'requesting')];
  const host = await hostFor(one, freshOne, [first.gossipUrl]);
  const other = await hostFor(two, freshTwo, [second.gossipUrl]);
  const { adminListen: _, logLevel: __, gas: ___, ...further } = other;
  const both = { ...host, furtherNetworks: [{ ...further, gasKeyFile: host.gasKeyFile }] };
  const relay = await start(both);

  await until(
    'both joined',
    () => freshOne.state === 'joined' && freshTwo.state === 'joined',
    () => [relay.status(), relay.status(two.address)],
  );
  // Four purposes of one account, none of another's.
  await until('four transactions', async () => (await transactionsOf(host.gas)) === 4);
  expect(await transactionsOf(other.gas)).toBe(0);
  for (const network of [one, two]) {
    expect(await eventsOf(network, 'Registered')).toBe(1);
    expect(await eventsOf(network, 'Onboarded')).toBe(1);
  }
  expect(relay.status().gasAddress).toBe(relay.status(two.address).gasAddress);

  const get = async (path: string) => (await fetch(relay.adminUrl + path)).json();
  const status = (await get('/v1/status')) as { networks: { contract: string }[] };
  expect(status.networks.map(({ contract }) => contract)).toEqual([one.address, two.address]);
  expect(await get(`/v1/status?contract=${two.address.toLowerCase()}`)).toMatchObject({
    contract: two.address,
  });
  expect(await get(`/v1/status?contract=${addressOf(newPrivateKey())}`)).toMatchObject({
    code: 'NO_NETWORK',
  });
  await until(
    'records of both',
    async () => ((await get('/v1/records')) as { records: string[] }).records.length === 4,
  );
  const metrics = await (await fetch(`${relay.adminUrl}/metrics`)).text();
  for (const { address } of [one, two])
    expect(metrics).toContain(`dstack_relay_node_joined{contract="${address.toLowerCase()}"} 1`);
  expect(metrics.match(/^dstack_relay_gas_balance_eth/gm)).toHaveLength(1);

  // Messages of one network do not reach the other's peers.
  const stray = await newRequest(two, (await newKemKeyPair()).publicKey);
  expect(await (await post(relay.gossipUrls[0]!, stray)).json()).toMatchObject({
    code: 'GOSSIP_OTHER_NETWORK',
  });
  expect((await post(relay.gossipUrls[1]!, stray)).status).toBe(200);
});

test("two networks that share a payer must agree on how it pays, and a relay that can't start leaves nothing open", async () => {
  const [one, two] = [await bootstrappedNetwork(chain, 50), await bootstrappedNetwork(chain, 50)];
  const host = await hostFor(one, await guestOf(one, 'joined'));
  const other = { ...(await hostFor(two, await guestOf(two, 'joined'))), gasKeyFile: host.gasKeyFile };
  await expect(runRelay({ ...host, furtherNetworks: [{ ...other, maxFeeGwei: 5 }] })).rejects.toMatchObject({
    code: 'SETTINGS',
    message: expect.stringContaining('DSTACK_MAX_FEE_GWEI'),
  });
  await start({ ...host, furtherNetworks: [other] });
});
