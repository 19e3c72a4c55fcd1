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
  /** It leaves out what may be left out of a log. */
  isTerse?: boolean;
}

/** An endpoint of a chain that is invented as it is asked. */
async function startEndpoint(options: EndpointOptions) {
  const { head, events, dataBytes = 32, limit = Number.POSITIVE_INFINITY, refusal, isTerse } = options;
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
    if (to - from + 1 > limit) return { error: refusal };
    return { result: Array.from({ length: to - from + 1 }, (_, at) => logsOf(from + at)).flat() };
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

/** Runs the loop until it has reached `head`; how many events it handled. */
async function follow(url: string, head: number, startBlock: number): Promise<number> {
  let handled = 0;
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
    log: { info: () => {}, warn: () => {} },
    startBlock: async () => startBlock,
    confirmations: 0,
    pollInterval: 5,
  });
  cleanups.push(async () => {
    await loop.stop();
    store.close();
  });
  loop.start();
  for (const deadline = Date.now() + 180_000; loop.cursor() !== head || loop.open().length > 0; ) {
    if (Date.now() > deadline)
      throw new Error(`waited 180000 ms in vain for block ${head}: ${loop.cursor()}`);
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
