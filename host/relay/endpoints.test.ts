/** The relay's event loop against endpoints that limit what they answer, each with the error of a real one. */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Type } from 'typebox';
import { afterEach, expect, test } from 'vitest';
import { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { EventLoop } from '../../lib/framework/event-loop.ts';
import { openStore } from '../../lib/framework/store.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';

const CONTRACT = `0x${'11'.repeat(20)}`;
const TOPIC = `0x${'22'.repeat(32)}`;
const word = (n: number): string => `0x${n.toString(16).padStart(64, '0')}`;
const hex = (n: number): string => `0x${n.toString(16)}`;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface EndpointOptions {
  head: number;
  /** Events in a block. */
  events: (block: number) => number;
  /** Bytes of data of each. */
  dataBytes?: number;
  /** Blocks that it answers `eth_getLogs` for at once, and what it says when there are more. */
  limit?: number;
  refusal?: object;
  /** Blocks that it never answers for, alone or with others. */
  refused?: number[];
  /** Whether it answers for no block now. */
  isRefused?: () => boolean;
  /** It leaves out what may be left out of a log. */
  isTerse?: boolean;
  /** Entries that it puts in front of all others. */
  more?: object[];
}

/** An endpoint of a chain that is invented as it is asked. */
async function startEndpoint(options: EndpointOptions) {
  const { head, events, dataBytes = 32, limit = Number.POSITIVE_INFINITY, refusal, isTerse } = options;
  const { refused = [], isRefused = () => false, more = [] } = options;
  const asked: number[] = [];

  const logsOf = (block: number) =>
    Array.from({ length: events(block) }, (_, index) => ({
      address: CONTRACT,
      topics: [TOPIC],
      data: `0x${'ab'.repeat(dataBytes)}`,
      blockNumber: hex(block),
      blockHash: word(block),
      transactionHash: word(1_000_000 * block + index),
      logIndex: hex(index),
      ...(!isTerse && { transactionIndex: hex(index), removed: false }),
    }));

  function reply(method: string, [first]: unknown[]): { result?: unknown; error?: unknown } {
    if (method === 'eth_chainId') return { result: '0x1' };
    if (method === 'eth_getBlockByNumber') {
      const number = first === 'latest' ? head : Number(first);
      return { result: { number: hex(number), hash: word(number) } };
    }
    const { fromBlock, toBlock } = first as { fromBlock: string; toBlock: string };
    const [from, to] = [Number(fromBlock), Number(toBlock)];
    asked.push(to - from + 1);
    const isIn = refused.some((block) => from <= block && block <= to);
    if (to - from + 1 > limit || isIn || isRefused()) return { error: refusal };
    return {
      result: [...more, ...Array.from({ length: to - from + 1 }, (_, at) => logsOf(from + at)).flat()],
    };
  }

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString());
    response.end(JSON.stringify({ jsonrpc: '2.0', id, ...reply(method, params) }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

interface Following {
  haste: number;
  said: string[];
  within: number;
  reread: number;
}

/** Runs the loop until it has reached `head`, by a clock that is so many times as fast; how many events it handled. */
async function follow(
  url: string,
  head: number,
  startBlock: number,
  { haste = 1, said = [], within = 180_000, reread = 16 }: Partial<Following> = {},
): Promise<number> {
  let handled = 0;
  const begun = Date.now();
  const store = openStore(':memory:');
  const loop = new EventLoop({
    store,
    source: new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) }),
    enclave: { request: async () => ({}) },
    host: { submit: async () => {}, publish: async () => {} },
    message: Type.Object({}),
    handlers: [
      {
        name: 'count',
        topic: TOPIC,
        decode: (log) => log,
        request: async () => {
          handled += 1;
          return { kind: 'skip', reason: 'counted' };
        },
        settle: async () => [],
      },
    ],
    log: { info: () => {}, warn: (_fields, line) => void said.push(line) },
    reread,
    now: () => Math.round(begun + haste * (Date.now() - begun)),
    startBlock: async () => startBlock,
    confirmations: 0,
    pollInterval: 5,
  });
  cleanups.push(async () => {
    await loop.stop();
    store.close();
  });
  loop.start();
  for (const deadline = Date.now() + within; loop.cursor() !== head || loop.open().length > 0; ) {
    if (Date.now() > deadline)
      throw new Error(`waited ${within} ms in vain for block ${head}: ${loop.cursor()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return handled;
}

const limits = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../../testdata/rpc/wordings.json'), 'utf8')) as {
    who: string;
    kind: string;
    method: string;
    error: { code: number; message: string };
  }[]
).filter(({ kind, method }) => kind === 'too-much' && method === 'eth_getLogs');

test.each(limits.map(({ who, error }) => [who, error.message.slice(0, 50), error] as const))(
  'an endpoint that answers for 10 blocks at once is read to its end: %s: %s',
  async (_who, _words, refusal) => {
    const head = 2000;
    const { url, asked } = await startEndpoint({
      head,
      events: (block) => Number(block % 100 === 0),
      limit: 10,
      refusal,
    });
    expect(await follow(url, head, 1)).toBe(20);
    expect(asked.filter((range) => range > 10).length).toBeLessThan(30);
  },
);

test('more events than a reply may hold: 8,000 in 80 blocks are all handled', async () => {
  const { url, asked } = await startEndpoint({
    head: 100,
    events: (block) => (block > 20 ? 100 : 0),
    dataBytes: 256,
  });
  expect(await follow(url, 100, 1)).toBe(8000);
  expect(asked[0]).toBe(100);
}, 300_000);

test('more events than are taken at once, in fewer bytes than are: they are asked for in parts', async () => {
  const { url, asked } = await startEndpoint({
    head: 100,
    events: (block) => (block > 20 ? 128 : 0),
    dataBytes: 0,
    isTerse: true,
  });
  expect(await follow(url, 100, 1)).toBe(80 * 128);
  expect(asked[0]).toBe(100);
}, 300_000);

test('an event with more data than is stored is left out, those of the same blocks are handled', async () => {
  const log = {
    address: CONTRACT,
    topics: [TOPIC],
    blockHash: word(7),
    transactionHash: word(7),
    logIndex: '0x9',
  };
  const { url } = await startEndpoint({
    head: 20,
    events: () => 1,
    // Half a gas limit of a block pays for it.
    more: [{ ...log, blockNumber: '0x7', data: `0x${'ab'.repeat(1_000_000)}` }],
  });
  expect(await follow(url, 20, 1, { within: 20_000 })).toBe(20);
});

test('a block whose events the endpoint never gives is left out after a while, and named; those after it are handled', async () => {
  const said: string[] = [];
  const refusal = { code: -32005, message: 'query returns too many logs, narrow your filter: 20000' };
  const { url, asked } = await startEndpoint({
    head: 40,
    events: (block) => Number(block > 0),
    ...{ refused: [7, 9], refusal },
  });
  expect(await follow(url, 40, 1, { haste: 1000, said, within: 20_000 })).toBe(38);
  expect(said.filter((line) => line.includes('they are left out'))).toHaveLength(2);
  expect(asked.length).toBeGreaterThan(10);
});

test('while an endpoint refuses each block, however long, none is left out', async () => {
  const state = { refused: true };
  const { url } = await startEndpoint({
    head: 40,
    events: (block) => Number(block > 0),
    refusal: { code: -32000, message: 'something is wrong here' },
    isRefused: () => state.refused,
  });
  const handled = follow(url, 40, 1, { haste: 100_000, reread: 0 });
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  state.refused = false;
  expect(await handled).toBe(40);
});

test('entries of no block yet, or not any more, are not taken for events, nor do they keep the others from being read', async () => {
  const log = { address: CONTRACT, topics: [TOPIC], data: '0x', transactionHash: word(7), logIndex: '0x0' };
  const { url } = await startEndpoint({
    head: 20,
    events: () => 1,
    more: [
      { ...log, blockNumber: null, blockHash: null, logIndex: null },
      { ...log, blockNumber: '0x7', blockHash: word(70), removed: true },
    ],
  });
  expect(await follow(url, 20, 1, { within: 20_000 })).toBe(20);
});
