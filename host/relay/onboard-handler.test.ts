import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbiCoder } from 'ethers';
import { afterAll, beforeEach, expect, test, vi } from 'vitest';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { openStore } from '../../lib/framework/store.ts';
import type { CollateralMessage } from '../../lib/protocol/collateral.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { chainHex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { networkTopics, type RequestView } from '../../lib/protocol/network-contract.ts';
import { nodePaths, type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { newAnswer, SECRET } from '../../test/support/guest.ts';
import { MessageKinds } from '../gossip/message-kind.ts';
import { MessageLog } from '../gossip/message-log.ts';
import { Archive } from './archive.ts';
import { requestKind } from './kinds/request.ts';
import { relayKinds } from './kinds.ts';
import type { Network } from './network.ts';
import { onboardHandler } from './onboard-handler.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const scratch = mkdtempSync(join(tmpdir(), 'onboard-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const kem = await newKemKeyPair();
const request: RequestMessage = {
  type: 'request',
  ...domain,
  node: parseAddress(`0x${'99'.repeat(20)}`),
  kemPublicKey: toHex(kem.publicKey),
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
const log = {
  blockNumber: 6,
  blockHash: parseHex(`0x${'66'.repeat(32)}`),
  transactionHash: parseHex(`0x${'77'.repeat(32)}`),
  logIndex: 0,
  topics: [parseHex(networkTopics.Registered), chainHex(requestHash)],
  data: AbiCoder.defaultAbiCoder().encode(['address'], [request.node]),
};
const context = { log, age: 0 };

let state: RequestView['state'];
let reads: number;
let nodeState: 'joined' | 'requesting';
let own: boolean;
/** Milliseconds from the event until it is this relay's. */
let turn: number;
let woken: string[];
let onboarded: boolean;
/** Whether the blocks say that the request is open. */
let surely: boolean;
let ours: CollateralMessage | undefined;
let messages: MessageLog;
let archive: Archive;
let handler: ReturnType<typeof onboardHandler>;
let folders = 0;

beforeEach(() => {
  [state, reads, nodeState, own, ours] = ['open', 0, 'joined', false, undefined];
  [turn, woken, onboarded, surely] = [0, [], false, false];
  const store = openStore(':memory:');
  messages = new MessageLog(store, new MessageKinds(relayKinds));
  archive = new Archive(join(scratch, String(folders++)));
  const network = {
    domain,
    request: async () => {
      reads += 1;
      return { state };
    },
    isOpenSince: async () => surely,
    recent: async () => ({
      head: 10,
      view: { networkKey: networkKey(SECRET, 1).address, requestWindow: 50 },
    }),
  } as unknown as Network;
  const status = {
    state: nodeState,
    flavour: 'sim',
    ...domain,
    config: parseHex('00'.repeat(32)),
    epoch: 1,
  } as const;
  handler = onboardHandler({
    store,
    network,
    node: { status: async () => ({ ...status, state: nodeState }) },
    messages,
    archive,
    collateral: { forQuote: async (_quote, brought = []) => ours ?? brought[0] },
    isOwn: () => own,
    nodeCount: { has: () => onboarded },
    turns: { delay: () => turn, answered() {}, saw() {} },
    wake: (hash) => woken.push(hash),
    log: { info() {} },
  });
});

test('reads the event, and nothing else', () => {
  expect(handler.decode(log)).toEqual(event);
  expect(() =>
    handler.decode({ ...log, topics: [parseHex(networkTopics.Onboarded), log.topics[1]!] }),
  ).toThrow();
  expect(() => handler.decode({ ...log, data: '0x' })).toThrow();
});

test('hands an open request to the joined node', async () => {
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toEqual({
    kind: 'request',
    path: nodePaths.onboard,
    body: request,
  });
});

test('a look that nobody waits for any more hands nothing over: another may have begun', async () => {
  ours = PUBLISHED_SIMULATED_COLLATERAL;
  messages.add(request, 'peer');
  const signal = AbortSignal.abort(new Retryable('OVERDUE', 'overdue'));
  await expect(handler.request(event, { ...context, signal })).rejects.toMatchObject({ code: 'OVERDUE' });
  // Nothing was handed over that the node could have refused.
  expect(await handler.refused?.(event, new Retryable('NODE_UNREACHABLE', 'later'))).toBe(false);
  ours = undefined;
  await handler.request(event, context);
  expect(await handler.refused?.(event, new DstackError('QUOTE_INVALID', 'no'))).toBe(true);
});

test.each<[string, () => void, { kind: string; reason: RegExp }]>([
  ['it is our own', () => (own = true), { kind: 'skip', reason: /our own/ }],
  ['it is answered', () => (state = 'answered'), { kind: 'skip', reason: /answered/ }],
  ['it expired', () => (state = 'expired'), { kind: 'park', reason: /expired/ }],
  ['it is not on chain yet', () => (state = 'none'), { kind: 'wait', reason: /not on chain yet/ }],
  [
    'our node has not joined',
    () => (nodeState = 'requesting'),
    { kind: 'wait', reason: /requesting, not joined/ },
  ],
])('does not when %s', async (_what, change, { kind, reason }) => {
  messages.add(request, 'peer');
  change();
  expect(await handler.request(event, context)).toMatchObject({
    kind,
    reason: expect.stringMatching(reason),
  });
});

test('does not when another node has answered, nor for ever when its block was dropped', async () => {
  messages.add(request, 'peer');
  state = 'none';
  expect(await handler.request(event, { log, age: 60 * 60_000 })).toMatchObject({ kind: 'skip' });
  state = 'open';
  messages.add(await newAnswer(domain, request), 'peer');
  const before = reads;
  const waits = { reason: expect.stringMatching(/another node has answered/) };
  expect(await handler.request(event, context)).toMatchObject({ kind: 'park', key: requestHash, ...waits });
  expect(reads).toBe(before);
  // An event says that the answer is on chain, and it is signed: nothing is left to look for.
  onboarded = true;
  expect(await handler.request(event, context)).toMatchObject({
    kind: 'skip',
    reason: 'the request is answered',
  });
  expect(reads).toBe(before);
  expect([archive.hasRequest(requestHash), messages.isKept(requestHash)]).toEqual([true, true]);
});

test("an event alone ends nothing: without an answer that the network's key signed the state is read", async () => {
  messages.add(request, 'peer');
  messages.add(await newAnswer(domain, request, newPrivateKey()), 'peer');
  [onboarded, surely] = [true, true];
  expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
  expect(reads).toBe(1);
});

test('a request that the blocks say is open is handed over without a look at the chain, once', async () => {
  messages.add(request, 'peer');
  [surely, state] = [true, 'answered'];
  expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
  expect(reads).toBe(0);
  await handler.refused?.(event, new Retryable('LATER', 'not now'));
  expect(await handler.request(event, context)).toMatchObject({ kind: 'skip' });
  expect(reads).toBe(1);
});

test('of a block that is not read yet it has to know what it may have to answer itself, and what it does not know', async () => {
  turn = 5000;
  const names = (subject: string) => subject === requestHash;
  const patience = (age = 0) => handler.patience?.({ age, followed: 0, names });
  // Something else happened, or the request has not come here.
  expect(await patience()).toBe(0);
  messages.add(request, 'peer');
  expect([await patience(), await patience(4999), await patience(5000)]).toEqual([5000, 1, 0]);
  own = true;
  expect(await patience()).toBeLessThanOrEqual(0);
  own = false;
  messages.add(await newAnswer(domain, request), 'peer');
  expect(await patience()).toBe(Number.POSITIVE_INFINITY);
  // Its event was seen: another one about it is news.
  messages.keep(requestHash);
  expect(await patience()).toBe(0);
});

test('waits for its turn without a look at the chain, and hands nothing over if an answer came first', async () => {
  vi.useFakeTimers();
  try {
    messages.add(request, 'peer');
    turn = 700;
    const waits = { kind: 'park', key: requestHash, reason: expect.stringMatching(/turn/) };
    expect(await handler.request(event, context)).toMatchObject(waits);
    vi.advanceTimersByTime(699);
    expect(woken).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(woken).toEqual([requestHash]);
    expect(reads).toBe(0);
    messages.add(await newAnswer(domain, request), 'peer');
    expect(await handler.request(event, { log, age: 700 })).toMatchObject({
      kind: 'park',
      reason: expect.stringMatching(/another node/),
    });
    expect(reads).toBe(0);
    // One that the network's key did not sign changes nothing.
    messages.forget(requestHash);
    messages.add(request, 'peer');
    messages.add(await newAnswer(domain, request, newPrivateKey()), 'peer');
    expect(await handler.request(event, context)).toMatchObject(waits);
    expect(await handler.request(event, { log, age: 700 })).toMatchObject({ kind: 'request' });
    // A second copy after a refusal does not wait again.
    await handler.refused?.(event, new Retryable('LATER', 'not now'));
    expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
  } finally {
    vi.useRealTimers();
  }
});

test("waits for the gossip without asking the chain, until the event's own window is over", async () => {
  const waits = { kind: 'park', key: requestHash, until: log.blockNumber + 50 + 64 };
  for (let n = 0; n < 10; n += 1) expect(await handler.request(event, context)).toMatchObject(waits);
  expect(reads).toBe(0);
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
});

test('of a request that nobody answered nothing is left; of one that was, one version', async () => {
  const collateral = PUBLISHED_SIMULATED_COLLATERAL;
  for (let n = 0; n < 5; n += 1) messages.add({ ...request, quote: parseHex(`440${n}`) }, `stranger ${n}`);
  messages.add({ ...request, collateral }, 'peer');
  await handler.request(event, context);
  expect(archive.list()).toEqual([]);
  state = 'expired';
  await handler.request(event, context);
  expect(archive.list()).toEqual([]);

  // A re-org brought an answer after all.
  [state, onboarded] = ['answered', true];
  messages.add(await newAnswer(domain, request), 'peer');
  expect(await handler.request(event, context)).toMatchObject({ kind: 'skip' });
  const kept = archive.list().map((name) => JSON.parse(archive.read(name)!));
  expect(kept.map(({ type }) => type)).toEqual(['answer', 'request']);
  expect(kept[1].collateral).toEqual(collateral);

  handler.over?.(event);
  expect(messages.about(requestKind, requestHash)).toEqual([]);
  expect(archive.list()).toHaveLength(2);
});

test("what is kept of a request that another node answered can be judged: a stranger's old collateral is not put in its place", async () => {
  ours = PUBLISHED_SIMULATED_COLLATERAL;
  messages.add(
    { ...request, collateral: { ...PUBLISHED_SIMULATED_COLLATERAL, tcb_info: '{"old":true}' } },
    'stranger',
  );
  messages.add(request, 'peer');
  messages.add(await newAnswer(domain, request), 'peer');
  [state, onboarded] = ['answered', true];
  expect(await handler.request(event, context)).toMatchObject({ kind: 'skip' });
  const kept = archive.list('request-').map((name) => JSON.parse(archive.read(name)!) as RequestMessage);
  expect(kept.map(({ collateral }) => collateral)).toEqual([ours]);
});

test("gossips only what the network's key signed for this request", async () => {
  const good = await newAnswer(domain, request);
  expect(await handler.settle(good, event)).toEqual([{ kind: 'gossip', message: good }]);
  const refusals: [unknown, string][] = [
    [await newAnswer(domain, request, newPrivateKey()), 'GOSSIP_SIGNATURE'],
    [{ ...good, answerHash: '00'.repeat(32) }, 'GOSSIP_SIGNATURE'],
    [{ ...good, sealed: '00'.repeat(1168) }, 'NODE_ANSWER'],
    [{ ...good, node: domain.contract }, 'GOSSIP_SIGNATURE'],
    [{ ...good, chainId: 8 }, 'GOSSIP_OTHER_NETWORK'],
    [{ ...good, requestHash: '00'.repeat(32) }, 'NODE_ANSWER'],
    [{ ...good, secret: 'x' }, 'NODE_ANSWER'],
    [undefined, 'NODE_ANSWER'],
  ];
  for (const [response, code] of refusals) {
    await expect(handler.settle(response, event)).rejects.toMatchObject({ code });
  }
});

test('hands over collateral: its own, else what any version of the request brought; and archive what was judged', async () => {
  const brought = { ...PUBLISHED_SIMULATED_COLLATERAL, tcb_info: '{"brought":true}' };
  messages.add(request, 'peer');
  messages.add({ ...request, collateral: brought }, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ body: { ...request, collateral: brought } });
  ours = PUBLISHED_SIMULATED_COLLATERAL;
  expect(await handler.request(event, context)).toMatchObject({ body: { ...request, collateral: ours } });
  await handler.settle(await newAnswer(domain, request), event);
  const kept = archive.list().map((name) => JSON.parse(archive.read(name)!) as RequestMessage);
  expect(kept.map(({ collateral }) => collateral)).toContainEqual(ours);
});

const copies = (...quotes: string[]) => quotes.map((quote) => ({ ...request, quote: parseHex(quote) }));
const refuse = (code: string) => handler.refused?.(event, new DstackError(code, 'no'));

test('after a refusal the next copy is handed over, each once; after the last another one is waited for', async () => {
  const [other, third] = copies('4455', '4466') as [RequestMessage, RequestMessage];
  messages.add(other, 'attacker');
  messages.add(request, 'peer');
  for (const body of [other, request]) {
    expect(await handler.request(event, context)).toMatchObject({ body });
    expect(await refuse('QUOTE_SIGNATURE')).toBe(true);
  }
  expect(await handler.request(event, context)).toMatchObject({
    kind: 'park',
    reason: expect.stringMatching(/another copy.*QUOTE_SIGNATURE: no/),
  });
  // Not again, however often it comes.
  expect(messages.add(other, 'attacker').fresh).toBe(false);
  messages.add(third, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ body: third });
});

test('refused copies free their places: the genuine one comes after more than there is room for', async () => {
  for (let n = 0; n < 40; n += 1) {
    messages.add({ ...request, quote: parseHex(`4455${10 + n}`) }, `source ${n}`);
    if (n % 8 !== 7) continue;
    for (let judged = 0; judged < 8; judged += 1) {
      expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
      expect(await refuse('PCK_CHAIN_ROOT')).toBe(true);
    }
  }
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ body: request });
});

test('a copy that is only refused for now does not hold up the others, nor keep a new one out', async () => {
  const notNow = new Retryable('PLATFORM_NOT_ALLOWED', 'not yet');
  for (let n = 0; n < 8; n += 1)
    messages.add({ ...request, quote: parseHex(`4455${10 + n}`) }, `source ${n}`);
  const handed = [];
  for (let n = 0; n < 9; n += 1) {
    const verdict = await handler.request(event, context);
    handed.push(verdict.kind === 'request' && (verdict.body as RequestMessage).quote.slice(4));
    // At once as long as there is one that was not tried.
    expect(await handler.refused?.(event, notNow)).toBe(n < 7);
  }
  expect(handed).toEqual(['10', '11', '12', '13', '14', '15', '16', '17', '10']);
  expect(messages.add(request, 'peer').fresh).toBe(true);
  expect(await handler.request(event, context)).toMatchObject({ body: request });
});

test('a copy that was refused with our collateral is tried again with other collateral, not with the same', async () => {
  ours = { ...PUBLISHED_SIMULATED_COLLATERAL, tcb_info: '{"old":true}' };
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ body: { collateral: ours } });
  expect(await refuse('TCB_REVOKED')).toBe(true);
  expect(await handler.request(event, context)).toMatchObject({ kind: 'park' });
  ours = PUBLISHED_SIMULATED_COLLATERAL;
  expect(await handler.request(event, context)).toMatchObject({ body: { collateral: ours } });
});

test.each(['RTMR3_MISMATCH', 'REPORT_DATA_MISMATCH', 'TD_DEBUG', 'REQUEST_EXPIRED'])(
  "what the request's own hash covers is refused once for all copies: %s",
  async (code) => {
    for (const copy of copies('44', '4455')) messages.add(copy, 'peer');
    await handler.request(event, context);
    expect(await refuse(code)).toBe(false);
  },
);
