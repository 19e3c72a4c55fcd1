/** A host of two contracts, whose handlers start where the chain says, wait for what is woken, and gossip. */
import { Type } from 'typebox';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Address, addressKey, type Hex, parseAddress, parseHex } from '../../protocol/hex.ts';
import type { ContractLog, Effect, EventContext, Verdict } from '../handler.ts';
import { openStore, type Store } from '../store.ts';
import { type ContractHandler, Host, type HostOptions } from './host.ts';

const word = (n: number): Hex => parseHex(`0x${n.toString(16).padStart(64, '0')}`);
const key = (n: number): Hex => parseHex(n.toString(16).padStart(64, '0'));
const [ours, others] = ['c0', 'd0'].map((byte) => parseAddress(`0x${byte.repeat(20)}`)) as [Address, Address];
const TOPIC = word(7);
const HEAD = 100;

let store: Store;
let host: Host;
let warned: string[];
let gossiped: unknown[];
let events: { contract: Address; block: number }[];
/** First blocks that were asked for. */
let read: { contract: Address; from: number }[];

const logOf = (block: number): ContractLog => ({
  ...{ blockNumber: block, blockHash: word(block), transactionHash: word(block), logIndex: 0 },
  ...{ topics: [TOPIC], data: '0x' },
});

const sourceOf = (contract: Address) => ({
  head: async () => ({ number: HEAD, hash: word(HEAD) }),
  blockHash: async (block: number) => word(block),
  logs: async (from: number, to: number) => {
    read.push({ contract, from });
    return events
      .filter((one) => one.contract === contract && from <= one.block && one.block <= to)
      .map(({ block }) => logOf(block));
  },
});

function handlerOf(contract: Address, more: Partial<ContractHandler<number>> = {}): ContractHandler<number> {
  return {
    ...{ contract, name: 'one', topic: TOPIC },
    decode: ({ blockNumber }) => blockNumber,
    request: async (block): Promise<Verdict> => ({ kind: 'request', path: '/do', body: block }),
    settle: async (): Promise<Effect[]> => [],
    ...more,
  };
}

function begin(handlers: readonly ContractHandler<number>[], more: Partial<HostOptions> = {}): void {
  const tell = (_: object, line: string) => void warned.push(line);
  host = new Host({
    ...{ store, handlers, startBlock: 1, pollInterval: 5, log: { info: () => {}, warn: tell } },
    enclave: { request: async () => ({}) },
    chain: { logsOf: sourceOf, sendTransaction: async () => {} } as never,
    ...more,
  });
  host.start();
}

beforeEach(() => {
  [store, warned, gossiped, events, read] = [openStore(':memory:'), [], [], [], []];
});
afterEach(async () => {
  await host.stop();
  store.close();
});

test('each contract is read from its own first block, which may follow from the newest one', async () => {
  const starts: Record<string, number> = { [addressKey(ours)]: 40, [addressKey(others)]: HEAD - 1 - 20 };
  begin([handlerOf(ours), handlerOf(others)], {
    startBlock: async (contract, head) => (contract === addressKey(ours) ? 40 : head - 20),
  });
  await expect.poll(() => host.contracts.every((one) => host.progress(one).cursor() === HEAD - 1)).toBe(true);
  for (const contract of host.contracts)
    expect(read.find((one) => one.contract === contract)?.from).toBe(starts[contract]);
  expect(() => host.progress(parseAddress(`0x${'ee'.repeat(20)}`))).toThrow(
    expect.objectContaining({ code: 'CONTRACT_UNKNOWN' }),
  );
});

test('handlers are told apart by contract, topic and name: one of the same name in each contract', async () => {
  events = [ours, others].map((contract, n) => ({ contract, block: 10 + n }));
  const handled: string[] = [];
  const noting = (contract: Address) =>
    handlerOf(contract, {
      request: async (block) => {
        handled.push(`${contract} ${block}`);
        return { kind: 'skip', reason: 'noted' };
      },
    });
  begin([noting(ours), noting(others)]);
  await expect.poll(() => handled.toSorted()).toEqual([`${ours} 10`, `${others} 11`]);
  expect(() => begin([noting(ours), noting(ours)])).toThrow(
    expect.objectContaining({ code: 'HANDLER_TWICE' }),
  );
});

test('what waits for a key goes on when it is woken, and never once the host is being stopped', async () => {
  events = [1, 2].map((n) => ({ contract: ours, block: n }));
  let there = false;
  const done: number[] = [];
  begin([
    handlerOf(ours, {
      request: async (block) =>
        there
          ? { kind: 'request', path: '/do', body: block }
          : { kind: 'park', key: key(block), until: 2 * HEAD, reason: 'not there' },
      settle: async (_, block) => {
        done.push(block);
        return [];
      },
    }),
  ]);
  await expect.poll(() => host.progress(ours).count().parked).toBe(2);
  there = true;
  host.wake(key(1));
  await expect.poll(() => done).toEqual([1]);
  await host.stop();
  host.wake(key(2));
  expect(host.progress(ours).count()).toEqual({ jobs: 0, parked: 1 });
});

test('messages are gossiped as the schema says; without gossip the event is given up', async () => {
  events = [{ contract: ours, block: 3 }];
  const gossip = {
    schema: Type.Object({ text: Type.String() }),
    publish: async (message: unknown) => void gossiped.push(message),
  };
  const saying = (message: unknown) => handlerOf(ours, { settle: async () => [{ kind: 'gossip', message }] });
  begin([saying({ text: 'hello' }), { ...saying({ number: 1 }), name: 'two' }], { gossip });
  await expect.poll(() => warned.join()).toContain('two given up: EFFECT_INVALID');
  await expect.poll(() => gossiped).toEqual([{ text: 'hello' }]);
  await host.stop();
  store.close();

  [store, warned] = [openStore(':memory:'), []];
  begin([saying({ text: 'hello' })]);
  await expect.poll(() => warned.join()).toContain('one given up: EFFECT_INVALID');
  expect(gossiped).toHaveLength(1);
});

test('a step that is broken off by a stop counts as no failure, and is told so', async () => {
  events = [{ contract: ours, block: 3 }];
  const signals: (AbortSignal | undefined)[] = [];
  const refused: string[] = [];
  const hanging = handlerOf(ours, {
    request: (_, { signal }: EventContext) => {
      signals.push(signal);
      return new Promise(() => {});
    },
    refused: async (_, { code }) => {
      refused.push(code);
      return false;
    },
  });
  begin([hanging]);
  await expect.poll(() => signals).toHaveLength(1);
  expect(signals[0]?.aborted).toBe(false);
  await host.stop();
  expect(signals[0]?.reason).toMatchObject({ code: 'STOPPED' });
  expect(host.progress(ours).open()).toMatchObject([{ attempts: 0, reason: 'not looked at yet' }]);
  expect(refused).toEqual([]);
});
