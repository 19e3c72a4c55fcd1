/**
 * The chain's endpoints, and the host between, try to take a node back in time: every lie about the newest block, for every
 * choice of endpoints that are heard. It may cost a wait, with a code that says so. It must never cost a wiped secret, a decision
 * from a past state, or a clock that is slow, fast or set back.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readState } from '../../guest/kubernethes/apps-reader.ts';
import { type Identity, readIdentity } from '../../guest/replicator/identity.ts';
import { keyring } from '../../guest/replicator/keyring.ts';
import { createNode, type Node } from '../../guest/replicator/node.ts';
import { onboarder } from '../../guest/replicator/onboard.ts';
import { secretHolder } from '../../guest/replicator/secret.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { type ChainClient, chainClient } from '../../lib/chain/chain-client.ts';
import { NEAR } from '../../lib/chain/chain-heads.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { sha256, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { configHash, type NetworkConfig } from '../../lib/protocol/network-config.ts';
import {
  encodeAllowPlatform,
  encodeRevokePlatform,
  encodeRollout,
  type NetworkView,
} from '../../lib/protocol/network-contract.ts';
import type { RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { forgeAnswer, forgeBootstrap, forgeRequest, ppidOf, secretOf } from '../support/forge.ts';
import { asOf, honest, type Lie, type LyingRpc, showBlocks, startLyingRpc } from '../support/lying-rpc.ts';
import { eventually, registersOf, startTestNetwork, type TestNetwork } from '../support/network.ts';

const SECRET = () => secretOf("the network's");
const MANIFEST = { old: '01'.repeat(32), new: '02'.repeat(32) };
/** One that is allowed for a while, then revoked. */
const REVOKED_PPID = sha256(utf8('a platform that was revoked')).subarray(0, 16);

interface Header {
  number: string;
  timestamp: string;
}

let network: TestNetwork;
const proxies: LyingRpc[] = [];
let identity: Identity;
const stop = new AbortController();
/** Of every node here: what ended it. */
const ends: string[] = [];
/** A request that was registered while its platform was allowed, and one that may be answered. */
let revoked: RequestMessage;
let allowed: RequestMessage;
/** Headers of the past, and of now. */
let beforeBootstrap: Header;
let beforeRevoking: Header;
let beforeRollout: Header;
let justTooOld: Header;
let newest: Header;

/** Who is heard: a node's endpoints, and what the honest ones do. Two must agree. */
const heard = {
  'one endpoint silent': { endpoints: [0, 1, 2], silent: [0], liars: [1] },
  'as many endpoints as must agree': { endpoints: [1, 2], silent: [], liars: [1] },
  'all answering': { endpoints: [0, 1, 2], silent: [], liars: [1] },
  'all of them old, as the host replays them': { endpoints: [0, 1, 2], silent: [], liars: [0, 1, 2] },
} as const;
type Heard = keyof typeof heard;
const nodes = new Map<number, Node>();
const clients = new Map<number, ChainClient>();

const hex = (value: number): string => `0x${value.toString(16)}`;
const header = async (which: string): Promise<Header> =>
  (await network.rpc.send('eth_getBlockByNumber', [which, false])) as Header;
const latest = () => header('latest');
const configOf = (endpoints: readonly number[]): string =>
  network.configWith({ endpoints: endpoints.map((index) => proxies[index]!.url), quorum: 2 });
const clientOf = (endpoints: readonly number[], further: object = {}): ChainClient =>
  chainClient({
    config: JSON.parse(configOf(endpoints)) as NetworkConfig,
    timeout: 2_000,
    monotonic: () => 0,
    ...further,
  });

beforeAll(async () => {
  network = await startTestNetwork({ requestWindow: 250 });
  for (let i = 0; i < 3; i += 1) proxies.push(await startLyingRpc(network.anvil.url));
  // Lends its files and its platform; its replicator is not asked.
  const files = await network.start({ role: 'join' });
  await network.allow(files);
  identity = readIdentity(files.directory);
  for (const { endpoints } of [heard['all answering'], heard['as many endpoints as must agree']]) {
    clients.set(endpoints.length, clientOf(endpoints));
    await network.allowConfig(configOf(endpoints));
  }
  await network.confirm();
  beforeBootstrap = await latest();

  await forgeBootstrap(network, SECRET());
  await network.confirm();
  for (const size of clients.keys()) nodes.set(size, await joinedNode(size === 2 ? [1, 2] : [0, 1, 2]));
  const platform = to0x(createSimulatedPlatform({ ppid: REVOKED_PPID }).platformId);
  await network.send(encodeAllowPlatform({ platform }));
  ({ message: revoked } = await forgeRequest(network, { platform: { ppid: REVOKED_PPID } }));
  await network.register(revoked);
  ({ message: allowed } = await forgeRequest(network));
  await network.register(allowed);
  const app = to0x(appId('greeting'));
  await network.send(encodeRollout({ app, manifestHash: `0x${MANIFEST.old}` }));
  beforeRevoking = await latest();

  await network.rpc.send('anvil_mine', ['0x28', '0xc']);
  await network.send(encodeRevokePlatform({ platform }));
  beforeRollout = await latest();
  await network.rpc.send('anvil_mine', ['0x28', '0xc']);
  await network.send(encodeRollout({ app, manifestHash: `0x${MANIFEST.new}` }));
  newest = await latest();
  justTooOld = await header(hex(Number(newest.number) - NEAR.latest.blocks - 1));
});
beforeEach(() => {
  for (const proxy of proxies) proxy.lie = honest;
});
afterAll(async () => {
  stop.abort();
  for (const proxy of proxies) proxy.stop();
  await network?.stop();
});

async function joinedNode(
  endpoints: readonly number[],
  shown: () => Partial<NetworkView> = () => ({}),
): Promise<Node> {
  const text = configOf(endpoints);
  const config = configHash(Buffer.from(text));
  const platform = createSimulatedPlatform({ ppid: ppidOf(network) });
  const registers = { ...registersOf(), rtmr3: replay(expectedRequestLog('sim', config)) };
  const reader = networkReader(clientOf(endpoints, { monotonic: () => performance.now() }), network.contract);
  const node = createNode({
    identity: { ...identity, config, network: JSON.parse(text) as NetworkConfig },
    reader: { ...reader, network: async (at) => ({ ...(await reader.network(at)), ...shown() }) },
    attestor: {
      quote: async (reportData) => platform.signQuote({ registers, reportData }),
      joined: async () => {},
      firmwareLog: async () => [],
    },
    log: { info() {}, warn() {} },
    pollEvery: 50,
    watchEvery: 50,
    end: (code) => void ends.push(code),
  });
  void node.run(stop.signal);
  await eventually(async () => node.status().state === 'requesting', 'the node to ask');
  const request = await node.request();
  await network.register(request);
  const { answer, sealed } = await forgeAnswer(network, request, SECRET());
  await network.postOnboard(answer);
  expect(await node.answer(sealed)).toMatchObject({ state: 'joined' });
  return node;
}

/** Changes every header that is shown. */
const headers =
  (change: (header: Header) => object): Lie =>
  (method, reply) =>
    method === 'eth_getBlockByNumber'
      ? { result: { ...(reply.result as Header), ...change(reply.result as Header) } }
      : reply;

const lies: Record<string, () => Lie> = {
  'an old head': () => asOf(justTooOld),
  'a head of the far future': () => (method, reply, params) => {
    const ahead = { number: Number(newest.number) + 1_000_000, timestamp: Number(newest.timestamp) + 1e7 };
    const ofThat = params[0] === 'latest' || params[0] === hex(ahead.number);
    return ofThat ? showBlocks([ahead])(method, reply, params) : reply;
  },
  'an old timestamp on a new block': () =>
    headers(({ timestamp }) => ({ timestamp: hex(Number(timestamp) - 3000) })),
  'a timestamp of the future': () =>
    headers(({ timestamp }) => ({ timestamp: hex(Number(timestamp) + 3000) })),
  'the state before the bootstrap': () => asOf(beforeBootstrap),
  'the state before a platform was revoked': () => asOf(beforeRevoking),
  'the state before a rollout': () => asOf(beforeRollout),
};
/** These are no honest answers: no host has them from anyone. */
const invented = ['a head of the far future', 'an old timestamp on a new block', 'a timestamp of the future'];

/** What it costs: a wait with this code, or nothing. */
const costs: Record<Heard, string | undefined> = {
  'one endpoint silent': 'CHAIN_HEADS_APART',
  'as many endpoints as must agree': 'CHAIN_HEADS_APART',
  'all answering': undefined,
  'all of them old, as the host replays them': 'CHAIN_BEHIND',
};

const cases = (Object.keys(heard) as Heard[]).flatMap((who) =>
  Object.keys(lies)
    .filter((lie) => !(who.startsWith('all of them') && invented.includes(lie)))
    .map((lie) => [lie, who] as const),
);

const outcome = async <T>(promise: Promise<T>): Promise<T | string> => promise.catch(codeOf);

describe('the matrix', () => {
  test.each(cases)('%s, %s', async (name, who) => {
    const { endpoints, silent, liars } = heard[who];
    const node = nodes.get(endpoints.length)!;
    const known = clients.get(endpoints.length)!;
    const truth = Number(newest.timestamp);
    expect((await known.head()).number).toBe(Number(newest.number));
    expect(known.now()).toBe(truth);
    await eventually(async () => node.status().code === undefined, 'an honest look');

    for (const index of silent) proxies[index]!.lie = () => undefined;
    for (const index of liars) proxies[index]!.lie = lies[name]!();
    const code = costs[who];
    // One that has seen the chain; one of this machine that was started again; and, but for replays, one that never saw it.
    const readers = [known, clientOf(endpoints, { from: known.reached() })];
    if (!who.startsWith('all of them')) readers.push(clientOf(endpoints));
    for (const chain of readers) {
      const reader = networkReader(chain, network.contract);
      expect(await outcome(chain.head().then(({ number }) => number))).toBe(code ?? Number(newest.number));
      const judge = onboarder(
        identity,
        reader,
        secretHolder(keyring(new Map([[1, SECRET()]])), network.domain),
      );
      expect(await outcome(judge.onboard(revoked))).toBe(code ?? 'PLATFORM_NOT_ALLOWED');
      const state = await outcome(readState(reader).then(({ apps }) => apps.get('greeting')));
      expect(state).toBe(code ?? MANIFEST.new);
    }
    expect(known.now()).toBe(truth);
    await eventually(async () => node.status().code === code, 'the node to say so');
    await expectStill(() => node.status(), { state: 'joined', ...(code === undefined ? {} : { code }) });
    expect(ends).toEqual([]);

    // It only cost the wait.
    for (const proxy of proxies) proxy.lie = honest;
    await eventually(async () => node.status().code === undefined, 'the node to go on');
    const judge = onboarder(
      identity,
      networkReader(known, network.contract),
      secretHolder(keyring(new Map([[1, SECRET()]])), network.domain),
    );
    expect(await judge.onboard(allowed)).toMatchObject({ type: 'answer' });
    expect(known.now()).toBe(truth);
  });
});

describe('what a quorum shows', () => {
  const ZERO = parseAddress(`0x${'00'.repeat(20)}`);
  const OTHER = parseAddress(`0x${'77'.repeat(20)}`);
  let shown: Partial<NetworkView> = {};
  let node: Node;
  beforeAll(async () => {
    node = await joinedNode([0, 1, 2], () => shown);
  });

  test.each<[string, Partial<NetworkView>]>([
    ['the state before the bootstrap', { networkKey: ZERO, epoch: 0 }],
    ['another key of an earlier epoch', { networkKey: OTHER, epoch: 0 }],
    ['another key of this epoch, as another fork has it', { networkKey: OTHER, epoch: 1 }],
    ['no key, of a later epoch', { networkKey: ZERO, epoch: 2 }],
  ])('%s wipes nothing: the node says so and keeps looking', async (_, view) => {
    shown = view;
    await eventually(async () => node.status().code === 'CHAIN_EARLIER_STATE', 'the node to say so');
    await expectStill(() => node.status(), { state: 'joined', code: 'CHAIN_EARLIER_STATE' });
    expect(ends).toEqual([]);
    shown = {};
    await eventually(async () => node.status().code === undefined, 'the node to go on');
  });

  test('another key of a later epoch does', async () => {
    shown = { networkKey: parseAddress(OTHER), epoch: 2 };
    await eventually(async () => ends.length > 0, 'the end');
    expect(ends).toEqual(['KEY_SUPERSEDED']);
    expect(node.status()).toMatchObject({ state: 'failed', code: 'KEY_SUPERSEDED' });
  });
});

/** For some of the node's polls. */
async function expectStill(look: () => object, expected: object): Promise<void> {
  for (let i = 0; i < 8; i += 1) {
    expect(look()).toMatchObject(expected);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
