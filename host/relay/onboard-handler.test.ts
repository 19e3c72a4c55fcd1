import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbiCoder } from 'ethers';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated-published.ts';
import { openStore } from '../../lib/framework/store.ts';
import type { CollateralMessage } from '../../lib/protocol/collateral.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { networkTopics, type RequestView } from '../../lib/protocol/network-contract.ts';
import { nodePaths, type RequestMessage, requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { newAnswer, SECRET } from '../../test/support/guest.ts';
import { MessageLog } from '../gossip/message-log.ts';
import type { Network } from './network.ts';
import { onboardHandler } from './onboard-handler.ts';
import { Records } from './records.ts';

const domain = { chainId: 7, contract: `0x${'11'.repeat(20)}` };
const scratch = mkdtempSync(join(tmpdir(), 'onboard-test-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const kem = await newKemKeyPair();
const request: RequestMessage = {
  type: 'request',
  ...domain,
  node: `0x${'99'.repeat(20)}`,
  kemPublicKey: toHex(kem.publicKey),
  config: '22'.repeat(32),
  epoch: 1,
  blockNumber: 5,
  blockHash: '33'.repeat(32),
  quote: '44',
  quoteHash: '55'.repeat(32),
  signature: { r: `0x${'00'.repeat(32)}`, vs: `0x${'00'.repeat(32)}` },
};
const requestHash = toHex(requestOf(request).hash);
const event = { requestHash };
const log = {
  blockNumber: 6,
  blockHash: `0x${'66'.repeat(32)}`,
  transactionHash: `0x${'77'.repeat(32)}`,
  logIndex: 0,
  topics: [networkTopics.Registered, `0x${requestHash}`],
  data: AbiCoder.defaultAbiCoder().encode(['address'], [request.node]),
};
const context = { log, age: 0 };

let state: RequestView['state'];
let reads: number;
let nodeState: 'joined' | 'requesting';
let own: boolean;
let ours: CollateralMessage | undefined;
let messages: MessageLog;
let records: Records;
let handler: ReturnType<typeof onboardHandler>;
let folders = 0;

beforeEach(() => {
  [state, reads, nodeState, own, ours] = ['open', 0, 'joined', false, undefined];
  const store = openStore(':memory:');
  messages = new MessageLog(store);
  records = new Records(join(scratch, String(folders++)));
  const network = {
    domain,
    request: async () => {
      reads += 1;
      return { state };
    },
    recent: async () => ({ head: 10, view: { networkKey: networkKey(SECRET, 1).address } }),
  } as unknown as Network;
  const status = { state: nodeState, flavour: 'sim', ...domain, config: '00'.repeat(32), epoch: 1 } as const;
  handler = onboardHandler({
    store,
    network,
    node: { status: async () => ({ ...status, state: nodeState }) },
    messages,
    records,
    collateral: { forQuote: async (_quote, brought = []) => ours ?? brought[0] },
    isOwn: () => own,
    log: { info() {} },
  });
});

test('reads the event, and nothing else', () => {
  expect(handler.decode(log)).toEqual(event);
  expect(() => handler.decode({ ...log, topics: [networkTopics.Onboarded, log.topics[1]!] })).toThrow();
  expect(() => handler.decode({ ...log, data: '0x' })).toThrow();
});

test('hands an open request to the joined node, and keeps a record of it', async () => {
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toEqual({
    kind: 'request',
    path: nodePaths.onboard,
    body: request,
  });
  expect(records.list()).toHaveLength(1);
});

test.each<[string, () => void, { kind: string; reason: RegExp }]>([
  ['it is our own', () => (own = true), { kind: 'skip', reason: /our own/ }],
  ['it is answered', () => (state = 'answered'), { kind: 'skip', reason: /answered/ }],
  ['it expired', () => (state = 'expired'), { kind: 'skip', reason: /expired/ }],
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
  expect(await handler.request(event, context)).toMatchObject({
    kind: 'skip',
    reason: 'another node has answered',
  });
});

test('waits for the gossip without asking the chain each time', async () => {
  for (let n = 0; n < 10; n += 1)
    expect(await handler.request(event, context)).toMatchObject({ kind: 'wait' });
  expect(reads).toBe(1);
  messages.add(request, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ kind: 'request' });
});

test('gossips only what the network’s key signed for this request', async () => {
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

test('hands over collateral: its own, else what any version of the request brought; and records what was judged', async () => {
  const brought = { ...PUBLISHED_SIMULATED_COLLATERAL, tcb_info: '{"brought":true}' };
  messages.add(request, 'peer');
  messages.add({ ...request, collateral: brought }, 'peer');
  expect(await handler.request(event, context)).toMatchObject({ body: { ...request, collateral: brought } });
  ours = PUBLISHED_SIMULATED_COLLATERAL;
  expect(await handler.request(event, context)).toMatchObject({ body: { ...request, collateral: ours } });
  await handler.settle(await newAnswer(domain, request), event);
  const kept = records.list().map((name) => JSON.parse(records.read(name)!) as RequestMessage);
  expect(kept.map(({ collateral }) => collateral)).toContainEqual(ours);
});

test('after a refusal the next version is handed over, each once', async () => {
  const other = { ...request, quote: '4455' };
  messages.add(other, 'attacker');
  messages.add(request, 'peer');
  const refusal = new DstackError('QUOTE_SIGNATURE', 'no');
  expect(await handler.request(event, context)).toMatchObject({ body: other });
  expect(await handler.refused?.(event, refusal)).toBe(true);
  expect(await handler.request(event, context)).toMatchObject({ body: request });
  expect(await handler.refused?.(event, refusal)).toBe(false);
});
