import { beforeEach, expect, test, vi } from 'vitest';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { openStore } from '../../lib/framework/store.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { chainHex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { type NetworkView, networkTopics, type RequestView } from '../../lib/protocol/network-contract.ts';
import { nodePaths, type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { newAnswer, newSealed } from '../../test/support/guest.ts';
import { MessageKinds } from '../gossip/message-kind.ts';
import { MessageLog } from '../gossip/message-log.ts';
import { relayKinds } from './kinds.ts';
import { hashOfSealed } from './network.ts';
import { NodeCount } from './node-count.ts';
import { sealHandler } from './seal-handler.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const request: RequestMessage = {
  type: 'request',
  ...domain,
  node: parseAddress(`0x${'99'.repeat(20)}`),
  kemPublicKey: toHex((await newKemKeyPair()).publicKey),
  config: parseHex('22'.repeat(32)),
  epoch: 1,
  blockNumber: 5,
  blockHash: parseHex('33'.repeat(32)),
  quote: parseHex('44'),
  quoteHash: parseHex('55'.repeat(32)),
  signature: { r: parseHex(`0x${'00'.repeat(32)}`), vs: parseHex(`0x${'00'.repeat(32)}`) },
};
const requestHash = toHex(requestOf(request).hash);
const event = { requestHash };
const sealed = await newSealed(domain, request);
const log = {
  blockNumber: 6,
  blockHash: parseHex(`0x${'66'.repeat(32)}`),
  transactionHash: parseHex(`0x${'77'.repeat(32)}`),
  logIndex: 0,
  topics: [parseHex(networkTopics.Onboarded), chainHex(requestHash)],
  data: `0x${'88'.repeat(32)}${'99'.repeat(32)}`,
};
const context = { log, age: 0 };

let view: Pick<RequestView, 'state' | 'answerHash'>;
let nodeState: 'joined' | 'requesting';
let own: boolean;
/** Milliseconds from the event until it is this relay's. */
let turn: number;
let woken: string[];
let seen: string[];
let reads: number;
let messages: MessageLog;
let handler: ReturnType<typeof sealHandler>;

beforeEach(() => {
  view = { state: 'answered', answerHash: parseHex(`0x${hashOfSealed(sealed).slice(0, 62)}00`) };
  [nodeState, own] = ['joined', false];
  [turn, woken, seen, reads] = [0, [], [], 0];
  messages = new MessageLog(openStore(':memory:'), new MessageKinds(relayKinds));
  const status = { flavour: 'sim', ...domain, config: parseHex('00'.repeat(32)), epoch: 1 } as const;
  handler = sealHandler({
    network: {
      domain,
      foresee() {},
      request: async () => {
        reads += 1;
        return view as RequestView;
      },
      recent: async () => ({ head: 10, view: { requestWindow: 50 } as NetworkView }),
    },
    node: { status: async () => ({ ...status, state: nodeState }) },
    messages,
    isOwn: () => own,
    nodeCount: {
      has: (hash) => seen.includes(hash),
      saw: (hash) => {
        if (seen.includes(hash)) return false;
        seen.push(hash);
        return true;
      },
    },
    turns: { delay: () => turn },
    wake: (hash) => woken.push(hash),
    log: { info() {} },
  });
});

test('reads the event, and nothing else', () => {
  expect(handler.decode(log)).toEqual(event);
  expect(() =>
    handler.decode({ ...log, topics: [parseHex(networkTopics.Registered), log.topics[1]!] }),
  ).toThrow();
  expect(() => handler.decode({ ...log, data: '0x' })).toThrow();
});

test('hands the request of an answer on chain to the joined node, without collateral, and keeps what is about it', async () => {
  messages.add({ ...request, collateral: PUBLISHED_SIMULATED_COLLATERAL }, 'peer');
  expect(await handler.request(event, context)).toEqual({
    kind: 'request',
    path: nodePaths.sealed,
    body: request,
  });
  expect(messages.isKept(requestHash)).toBe(true);
});

test.each<[string, () => void, { kind: string; reason: RegExp }]>([
  ['it is our own', () => (own = true), { kind: 'skip', reason: /our own/ }],
  [
    'the answer is not on chain',
    () => (view = { ...view, state: 'open' }),
    { kind: 'wait', reason: /not on chain/ },
  ],
  ['our node has not joined', () => (nodeState = 'requesting'), { kind: 'wait', reason: /not joined/ }],
  ['another has', () => messages.add(sealed, 'peer'), { kind: 'skip', reason: /another node/ }],
])('does not when %s', async (_what, change, { kind, reason }) => {
  messages.add(request, 'peer');
  change();
  expect(await handler.request(event, context)).toMatchObject({
    kind,
    reason: expect.stringMatching(reason),
  });
});

test('waits for the request, bytes that the contract does not name keep it from nothing, and an hour ends it', async () => {
  const parked = { kind: 'park', key: requestHash, until: 120 };
  expect(await handler.request(event, context)).toMatchObject(parked);
  // Any number of such events cost no look at the chain, and none of the places of those that are worked on.
  expect([reads, messages.isKept(requestHash), messages.sought.has(requestHash)]).toEqual([0, true, true]);
  messages.add({ ...sealed, sealed: parseHex('00'.repeat(1168)) }, 'peer');
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
  expect(await handler.request(event, { log, age: 3_600_001 })).toMatchObject({ kind: 'skip' });
});

test('gossips only what the contract names', async () => {
  expect(await handler.settle(sealed, event)).toEqual([{ kind: 'gossip', message: sealed }]);
  const refusals: [unknown, string][] = [
    [{ ...sealed, sealed: '00'.repeat(1168) }, 'NODE_ANSWER'],
    [{ ...sealed, requestHash: '00'.repeat(32) }, 'NODE_ANSWER'],
    [{ ...sealed, chainId: 8 }, 'GOSSIP_OTHER_NETWORK'],
    [{ ...sealed, secret: 'x' }, 'NODE_ANSWER'],
    [undefined, 'NODE_ANSWER'],
  ];
  for (const [response, code] of refusals)
    await expect(handler.settle(response, event)).rejects.toMatchObject({ code });
  view = { ...view, state: 'open' };
  await expect(handler.settle(sealed, event)).rejects.toMatchObject({ code: 'NODE_ANSWER' });
});

test('waits for its turn without a look at the chain, then has the secret sealed; not if another was first', async () => {
  vi.useFakeTimers();
  try {
    messages.add(request, 'peer');
    turn = 700;
    expect(await handler.request(event, context)).toMatchObject({
      kind: 'park',
      key: requestHash,
      until: 120,
    });
    expect(reads).toBe(0);
    // Those who wait for the answer to be on chain hear of it at once.
    expect(woken.splice(0)).toEqual([requestHash]);
    vi.advanceTimersByTime(699);
    expect(woken).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(woken).toEqual([requestHash]);
    expect(await handler.request(event, { log, age: 700 })).toMatchObject({ kind: 'request' });
    messages.add(sealed, 'peer');
    expect(await handler.request(event, context)).toMatchObject({ kind: 'skip' });
    expect(seen).toContain(requestHash);
  } finally {
    vi.useRealTimers();
  }
});

test('bytes that a signed answer names need no look at the chain; others do', async () => {
  messages.add(request, 'peer');
  messages.add(await newAnswer(domain, request), 'peer');
  messages.add(sealed, 'peer');
  expect(await handler.request(event, context)).toMatchObject({
    kind: 'skip',
    reason: expect.stringMatching(/another node/),
  });
  expect([reads, messages.isKept(requestHash)]).toEqual([0, true]);
  messages.forget(requestHash);
  messages.add({ ...sealed, sealed: parseHex('00'.repeat(1168)) }, 'peer');
  messages.add(await newAnswer(domain, request), 'peer');
  await handler.request(event, context);
  expect(reads).toBe(1);
});

test('of a block that is not read yet it has to know what it may have to seal itself, and what it does not know', async () => {
  turn = 5000;
  const names = (subject: string) => subject === requestHash;
  const patience = (age = 0) => handler.patience?.({ age, followed: 0, names });
  expect(await patience()).toBe(0);
  messages.add(request, 'peer');
  expect([await patience(), await patience(5000)]).toEqual([5000, 0]);
  messages.add(sealed, 'peer');
  expect(await patience()).toBe(Number.POSITIVE_INFINITY);
  // It was seen to be onboarded.
  seen.push(requestHash);
  expect(await patience()).toBe(0);
});

test('counts each node that was onboarded once, also after a restart', () => {
  const store = openStore(':memory:');
  const count = new NodeCount(store);
  expect(count.nodes).toBe(1);
  for (const hash of ['a', 'b', 'a']) count.saw(hash);
  expect(count.nodes).toBe(3);
  expect(new NodeCount(store).nodes).toBe(3);
});
