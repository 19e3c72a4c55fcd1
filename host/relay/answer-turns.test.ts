/** How many nodes answer one request: relays with the real loop and handler, in time that the test makes pass. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbiCoder } from 'ethers';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EventLoop } from '../../lib/framework/event-loop.ts';
import { openStore } from '../../lib/framework/store.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { chainHex, type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { newAnswer, SECRET } from '../../test/support/guest.ts';
import { type Message, MessageKinds } from '../gossip/message-kind.ts';
import { MessageLog } from '../gossip/message-log.ts';
import { AnswerTurns, placeOf } from './answer-turns.ts';
import { Archive } from './archive.ts';
import { relayKinds } from './kinds.ts';
import type { Network } from './network.ts';
import { onboardHandler } from './onboard-handler.ts';

const scratch = mkdtempSync(join(tmpdir(), 'answer-turns-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));
beforeEach(() => {
  vi.useFakeTimers({ now: 1_700_000_000_000 });
});
afterEach(() => {
  vi.useRealTimers();
});

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const kem = await newKemKeyPair();
const hashOf = (text: string): Hex => toHex(sha256(utf8(text)));

const requestNo = (n: number): RequestMessage => ({
  type: 'request',
  ...domain,
  node: parseAddress(`0x${'99'.repeat(20)}`),
  kemPublicKey: toHex(kem.publicKey),
  config: parseHex('22'.repeat(32)),
  epoch: 1,
  blockNumber: 5,
  blockHash: hashOf(`block ${n}`),
  quote: parseHex('44'),
  quoteHash: parseHex('55'.repeat(32)),
  signature: { r: parseHex(`0x${'00'.repeat(32)}`), vs: parseHex(`0x${'00'.repeat(32)}`) },
});
const requests = Array.from({ length: 10 }, (_, n) => requestNo(n));
const answers = await Promise.all(requests.map((request) => newAnswer(domain, request)));

const GUEST_MS = 300;
const GOSSIP_MS = 50;
const POLL_MS = 100;

interface Result {
  /** How often a node was asked, for each request. */
  onboards: number[];
  /** Reads of requests on chain, by all relays. */
  reads: number;
  /** Milliseconds from the event to the first answer, for each request. */
  firstAfter: number[];
}

/** So many hosts whose nodes have joined, and requests that come one after the other. `dead`: relays whose answers reach nobody. */
async function run(
  hosts: number,
  dead: (nth: number, request: number) => boolean = () => false,
): Promise<Result> {
  const onboards = requests.map(() => 0);
  const firsts: (number | undefined)[] = requests.map(() => undefined);
  const since: number[] = [];
  let reads = 0;
  let registered = 0;
  const relays: { messages: MessageLog; loop: EventLoop }[] = [];
  const tell = (message: Message, to = relays) => {
    for (const { messages, loop } of to) {
      if (messages.add(message, 'peer').fresh) loop.wake(messages.subjectOf(message));
    }
  };
  for (let nth = 0; nth < hosts; nth += 1) {
    const store = openStore(':memory:');
    const messages = new MessageLog(store, new MessageKinds(relayKinds));
    const network = {
      domain,
      foresee() {},
      isOpenSince: async () => false,
      request: async () => {
        reads += 1;
        return { state: 'open' };
      },
      recent: async () => ({
        head: 10 + registered,
        view: { networkKey: networkKey(SECRET, 1).address, requestWindow: 400 },
      }),
    } as unknown as Network;
    const turns = new AnswerTurns({
      ownKey: hashOf(`relay ${nth}`),
      nodes: () => hosts,
      latency: () => GOSSIP_MS,
      pollInterval: POLL_MS,
    });
    const handler = onboardHandler({
      store,
      network,
      node: { status: async () => ({ state: 'joined' }) as never },
      messages,
      archive: new Archive(join(scratch, `${hosts}-${Math.random()}`)),
      collateral: { forQuote: async (_quote, brought = []) => brought[0] },
      isOwn: () => false,
      turns,
      nodeCount: { has: () => false },
      wake: (hash) => loop.wake(hash),
      log: { info() {} },
    });
    const loop: EventLoop = new EventLoop({
      store,
      source: {
        head: async () => ({
          number: 10 + registered,
          hash: chainHex(hashOf(`block ${10 + registered}`)),
        }),
        blockHash: async (n) => chainHex(hashOf(`block ${n}`)),
        logs: async (from, to) =>
          requests
            .slice(0, registered)
            .flatMap((request, n) => (11 + n < from || 11 + n > to ? [] : [logOf(request, 11 + n)])),
      },
      enclave: {
        request: async (_path, body) => {
          const n = requests.findIndex(({ blockHash }) => blockHash === (body as RequestMessage).blockHash);
          onboards[n]! += 1;
          await new Promise((resolve) => setTimeout(resolve, GUEST_MS));
          return answers[n];
        },
      },
      host: {
        submit: async () => {},
        publish: async (message) => {
          const n = answers.findIndex(
            ({ requestHash }) => requestHash === (message as { requestHash: string }).requestHash,
          );
          if (dead(nth, n)) return;
          messages.add(message as Message, 'self');
          firsts[n] ??= Date.now() - since[n]!;
          setTimeout(() => tell(message as Message), GOSSIP_MS);
        },
      },
      message: new MessageKinds(relayKinds).schema,
      handlers: [handler],
      log: { info() {}, warn() {}, error() {} } as never,
      startBlock: async () => 1,
      confirmations: 0,
      pollInterval: POLL_MS,
    });
    relays.push({ messages, loop });
  }
  for (const { loop } of relays) {
    loop.start();
    // Their looks at the chain are not at the same time.
    await vi.advanceTimersByTimeAsync(POLL_MS / hosts);
  }
  for (const [n, request] of requests.entries()) {
    tell(request);
    since[n] = Date.now();
    registered = n + 1;
    for (let waited = 0; waited < 20_000 && firsts[n] === undefined; waited += 50)
      await vi.advanceTimersByTimeAsync(50);
    await vi.advanceTimersByTimeAsync(3_000);
  }
  const stopping = Promise.all(relays.map(({ loop }) => loop.stop()));
  await vi.advanceTimersByTimeAsync(1_000);
  await stopping;
  return { onboards, reads, firstAfter: firsts.map((ms) => ms ?? Number.POSITIVE_INFINITY) };
}

const logOf = (request: RequestMessage, blockNumber: number) => {
  const requestHash = toHex(requestOf(request).hash);
  return {
    blockNumber,
    blockHash: chainHex(hashOf(`block ${blockNumber}`)),
    transactionHash: chainHex(hashOf(`transaction ${requestHash}`)),
    logIndex: 0,
    topics: [parseHex(networkTopics.Registered), chainHex(requestHash)],
    data: AbiCoder.defaultAbiCoder().encode(['address'], [request.node]),
  };
};

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

test('at eight hosts whose nodes take 300 ms a request is answered by two of them at most, on average', async () => {
  const { onboards, reads, firstAfter } = await run(8);
  expect(Math.min(...onboards)).toBeGreaterThanOrEqual(1);
  expect(sum(onboards) / onboards.length).toBeLessThanOrEqual(2);
  // Who does not answer does not read either.
  expect(reads).toBeLessThanOrEqual(2 * sum(onboards));
  expect(Math.max(...firstAfter)).toBeLessThan(
    8 * 1.5 * (GUEST_MS + 2 * GOSSIP_MS + POLL_MS) + GUEST_MS + 1_000,
  );
}, 120_000);

test('at two hosts nobody waits', async () => {
  const { onboards, firstAfter } = await run(2);
  expect(Math.max(...onboards)).toBeLessThanOrEqual(2);
  // The guest, a look at the chain, and the test's own steps.
  expect(Math.max(...firstAfter)).toBeLessThanOrEqual(GUEST_MS + 2 * POLL_MS + 50);
}, 120_000);

test('who answers nobody costs its turn: the next one follows', async () => {
  const all = await run(8);
  const first = requests.map((request) => {
    const hash = toHex(requestOf(request).hash);
    const places = Array.from({ length: 8 }, (_, nth) => placeOf(hash, hashOf(`relay ${nth}`)));
    return places.indexOf(Math.min(...places));
  });
  const without = await run(8, (nth, n) => nth === first[n]);
  expect(without.firstAfter.every((ms) => ms < 20_000)).toBe(true);
  const extra = without.firstAfter.map((ms, n) => ms - all.firstAfter[n]!);
  // On average one part of eight of the spread.
  const turn = 1.5 * (GUEST_MS + 2 * GOSSIP_MS + POLL_MS);
  expect(sum(extra) / extra.length).toBeLessThan(2 * turn);
  expect(sum(without.onboards) / requests.length).toBeLessThanOrEqual(3);
}, 240_000);

test('of ten thousand a handful start early, the others in growing groups, all within a quarter of the window', () => {
  const nodes = 10_000;
  const delays = Array.from({ length: nodes }, (_, nth) =>
    new AnswerTurns({
      ownKey: hashOf(`relay ${nth}`),
      nodes: () => nodes,
      latency: () => GOSSIP_MS,
      pollInterval: 1000,
    }).delay(hashOf('a request'), 2_000),
  );
  const spread = 8 * 1.5 * (300 + 6 * GOSSIP_MS + 1000);
  const early = delays.filter((ms) => ms < spread).length;
  expect(early).toBeGreaterThan(1);
  expect(early).toBeLessThan(20);
  expect(delays.filter((ms) => ms < 2 * spread).length).toBeLessThan(60);
  expect(Math.max(...delays)).toBeLessThanOrEqual(500_000);
  const short = new AnswerTurns({
    ownKey: hashOf('x'),
    nodes: () => nodes,
    latency: () => 60_000,
    pollInterval: 1000,
  });
  expect(short.delay(hashOf('a request'), 40)).toBeLessThanOrEqual(10_000);
});

test('a thousand keys of silent answerers, however they are chosen, delay eight honest ones by a few groups and never for good', () => {
  const [honest, silent] = [8, 1_000];
  const options = { nodes: () => honest + silent, latency: () => GOSSIP_MS, pollInterval: 1000 };
  const relays = Array.from(
    { length: honest },
    (_, nth) => new AnswerTurns({ ...options, ownKey: hashOf(`relay ${nth}`) }),
  );
  // Nobody else's key has a part in when an honest relay begins: without an answer it does.
  const first = Array.from({ length: 200 }, (_, n) =>
    Math.min(...relays.map((turns) => turns.delay(hashOf(`request ${n}`), 2_000))),
  ).toSorted((a, b) => a - b);
  const spread = 8 * 1.5 * (300 + 4 * GOSSIP_MS + 1000);
  // Groups are 8, 32, 128, 512, all: a log of how many are silent, not their number.
  expect(first.at(-1)).toBeLessThanOrEqual(5 * spread);
  expect(first[100]).toBeLessThanOrEqual(4 * spread);
  expect(first[100]).toBeGreaterThan(spread);
});

test('an endpoint that claimed blocks which there are not is not believed about the pace of blocks once they are gone', () => {
  const turns = new AnswerTurns({
    ownKey: hashOf('relay 3'),
    nodes: () => 8,
    latency: () => 0,
    pollInterval: 0,
  });
  const pass = (from: number) => {
    for (let block = from; block <= from + 20; block += 1) {
      turns.saw(block);
      vi.advanceTimersByTime(12_000);
    }
  };
  pass(100);
  const delay = turns.delay(hashOf('a request'), 4);
  turns.saw(2 ** 40);
  expect(turns.delay(hashOf('a request'), 4)).toBeLessThan(1);
  pass(130);
  expect(turns.delay(hashOf('a request'), 4)).toBeCloseTo(delay, 0);
});

test('the pace of blocks is measured, and a slow node of this host is heeded within bounds', () => {
  const turns = new AnswerTurns({
    ownKey: hashOf('relay 3'),
    nodes: () => 8,
    latency: () => 0,
    pollInterval: 0,
  });
  const before = turns.delay(hashOf('a request'), 100_000);
  for (let n = 0; n < 100; n += 1) turns.answered(60_000);
  expect(turns.delay(hashOf('a request'), 100_000) / before).toBeCloseTo(5000 / 300, 1);
  // A quarter of 40 blocks of a second each; of twelve each.
  expect(turns.delay(hashOf('a request'), 40)).toBeLessThanOrEqual(10_000);
  const capped = turns.delay(hashOf('a request'), 4);
  turns.saw(100);
  vi.advanceTimersByTime(120_000);
  turns.saw(110);
  expect(turns.delay(hashOf('a request'), 4) / capped).toBeCloseTo(12, 1);
});
