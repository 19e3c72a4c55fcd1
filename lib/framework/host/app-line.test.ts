/** The line of a contract whose endpoint, store and author's code are not what they should be. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as abi from '../../protocol/abi.ts';
import { Retryable } from '../../protocol/errors.ts';
import { type Hex, parseAddress, parseHex } from '../../protocol/hex.ts';
import { type AppRequest, hashOfRequest, kindWord, REQUESTED } from '../app/answer.ts';
import type { ContractLog } from '../handler.ts';
import { openStore, type Store } from '../store.ts';
import { AppLine, type Assemble } from './app-line.ts';

const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const Data = abi.struct({ data: abi.bytes });
const Progress = abi.struct({
  requested: abi.smallUint(48),
  settled: abi.smallUint(48),
  next: abi.fixedBytes(32),
});
const asking = (kind: string): AppRequest => ({
  sequence: 1,
  kind: kindWord(kind),
  sender: parseAddress(`0x${'5e'.repeat(20)}`),
  data: parseHex('0x0102'),
});
const word = (n: number): Hex => parseHex(`0x${n.toString(16).padStart(64, '0')}`);
const logOf = (request: AppRequest, blockNumber: number): ContractLog => ({
  blockNumber,
  blockHash: word(blockNumber),
  transactionHash: word(1),
  logIndex: 0,
  topics: [
    REQUESTED,
    word(request.sequence),
    request.kind,
    parseHex(`0x${request.sender.slice(2).toLowerCase().padStart(64, '0')}`),
  ],
  data: `0x${Data.encode({ data: request.data })}`,
});

let store: Store;
let logs: ContractLog[];
let progress: { requested: number; settled: number; next: Hex };
let asked: { request: AppRequest; evidence?: unknown }[];
let assemble: Record<string, Assemble>;
let mostLogs: number;
let line: AppLine;

function begin(): void {
  line = new AppLine({
    ...{ contract, store, assemble, pollInterval: 5, startBlock: 3 },
    chain: {
      chainId: 1,
      query: async () => `0x${Progress.encode(progress)}`,
      logsOf: () => ({
        head: async () => ({ number: 9000, hash: word(9) }),
        logs: async (from: number, to: number) => {
          if (from < 3) throw new Error('nothing is there before the contract');
          if (to - from >= mostLogs) throw new Retryable('RPC_TOO_LARGE', 'fewer');
          return logs.filter(({ blockNumber }) => from <= blockNumber && blockNumber <= to);
        },
      }),
    } as never,
    enclave: {
      request: async (_, body) => {
        asked.push(body as never);
        throw new Retryable('LATER', 'later');
      },
    },
    log: { info: () => {}, warn: () => {} },
  });
  line.start();
}

beforeEach(() => {
  [store, logs, asked, assemble, mostLogs] = [openStore(':memory:'), [], [], {}, 10_000];
  progress = { requested: 1, settled: 0, next: hashOfRequest(asking('echo')) };
});
afterEach(async () => {
  await line.stop();
  store.close();
});

const rows = () => store.list('line/request/');
const keep = (request: AppRequest) => line.handler().request(request, {} as never);

test('an endpoint that once says too much holds nothing up for good', async () => {
  logs = [logOf(asking('other'), 5), logOf(asking('echo'), 3)];
  mostLogs = 100;
  begin();
  await keep(asking('echo'));
  await expect.poll(() => asked.length).toBeGreaterThan(0);
  progress = { ...progress, requested: 5000, settled: 4000 };
  await expect.poll(() => rows().length).toBe(0);
  progress = { ...progress, requested: 1, settled: 0 };
  const before = asked.length;
  await expect.poll(() => asked.length).toBeGreaterThan(before);
  expect(hashOfRequest(asked.at(-1)!.request)).toBe(hashOfRequest(asking('echo')));
});

test('a request that the store has lost, or spoiled, is found in the chain', async () => {
  logs = [logOf(asking('echo'), 8000)];
  begin();
  await expect.poll(() => asked.length).toBeGreaterThan(0);
  store.put(rows()[0]!.key, '{"spoiled');
  const before = asked.length;
  await expect.poll(() => asked.length).toBeGreaterThan(before);
  expect(rows()[0]!.value).not.toContain('spoiled');
});

test('whatever assemble throws, the line goes on', async () => {
  let thrown: unknown;
  let calls = 0;
  assemble.echo = async () => {
    calls += 1;
    if (thrown !== 'nothing') throw thrown;
    return 'evidence';
  };
  begin();
  await keep(asking('echo'));
  for (const value of [undefined, null, Object.create(null)]) {
    thrown = value;
    const before = calls;
    await expect.poll(() => calls).toBeGreaterThan(before);
  }
  thrown = 'nothing';
  await expect.poll(() => asked.at(-1)?.evidence).toBe('evidence');
});

test('an assemble that does not come to an end does not keep the host from ending', async () => {
  assemble.echo = () => new Promise(() => {});
  begin();
  await keep(asking('echo'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  await line.stop();
  expect(asked).toHaveLength(0);
});

test('a kind is no property that every object has', async () => {
  progress = { ...progress, next: hashOfRequest(asking('constructor')) };
  begin();
  await keep(asking('constructor'));
  await expect.poll(() => asked.length).toBeGreaterThan(0);
  expect(asked[0]).toEqual({ request: asking('constructor') });
});
