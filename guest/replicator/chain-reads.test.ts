/** The node's reader of the chain as apps have it: what is shared, what is bounded, what is passed on. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { chainClient, type Head } from '../../lib/chain/chain-client.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { CHAIN_REPLY_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import { CONNECTIONS, chainReads } from './chain-reads.ts';

const to = parseAddress(`0x${'11'.repeat(20)}`);
const hash = parseHex('22'.repeat(32));
const asked = { to, data: parseHex('aabb'), block: { number: 7, hash } };
const head = (number: number): Head => ({
  ...{ number, hash: parseHex(`0x${'22'.repeat(32)}`), timestamp: 100 },
  proven: { by: 'quorum', agreeing: 2, of: 3 },
});
const noCall = () => Promise.reject(new Error('not asked'));

test('who asks at the same time gets the same head, which costs the endpoints one call', async () => {
  let calls = 0;
  const reads = chainReads({ head: async () => head(++calls), call: noCall });
  const first = { number: 1, hash, timestamp: 100, agreeing: 2, of: 3 };
  expect(await Promise.all([reads.head(), reads.head(), reads.head()])).toEqual([first, first, first]);
  expect((await reads.head()).number, 'the next is of now').toBe(2);
});

test('a head that fails is read again', async () => {
  let calls = 0;
  const failing = async () => {
    calls += 1;
    if (calls === 1) throw new Error('unreachable');
    return head(calls);
  };
  const reads = chainReads({ head: failing, call: noCall });
  await expect(reads.head()).rejects.toThrow('unreachable');
  expect((await reads.head()).number).toBe(2);
});

test('a call is made at the block with that hash', async () => {
  const calls: unknown[] = [];
  const reads = chainReads({
    head: noCall,
    call: async (...call) => {
      calls.push(call);
      return '0xCCDD';
    },
  });
  expect(await reads.call(asked)).toEqual({ data: 'ccdd' });
  expect(calls).toMatchObject([[to, '0xaabb', { number: 7, hash: `0x${hash}` }]]);
});

test('calls under way are bounded, and what fails gives its place back', async () => {
  const ends: (() => void)[] = [];
  const reads = chainReads({
    head: noCall,
    call: () => new Promise((_, reject) => ends.push(() => reject(new Error('no quorum')))),
  });
  const held = Array.from({ length: 8 }, () => reads.call(asked).catch((error: Error) => error.message));
  const further = reads.call(asked).catch(codeOf);
  const after = new Promise((resolve) => setTimeout(resolve, 500, 'it waits'));
  expect(await Promise.race([further, after])).toBe('BUSY');
  for (const end of ends.splice(0)) end();
  expect(await Promise.all(held)).toEqual(Array.from({ length: 8 }, () => 'no quorum'));
  const again = reads.call(asked);
  ends[0]!();
  await expect(again).rejects.toThrow('no quorum');
});

test('calls that an endpoint takes its time for hold up nothing that the node asks for itself', async () => {
  const now = () => `0x${Math.floor(Date.now() / 1000).toString(16)}`;
  let held = 0;
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { id, method } = JSON.parse(body) as { id: number; method: string };
    if (method === 'eth_call') {
      held += 1;
      return;
    }
    const block = { number: '0x7', hash: `0x${hash}`, timestamp: now() };
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: method === 'eth_chainId' ? '0x1' : block }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoints = [`http://127.0.0.1:${(server.address() as AddressInfo).port}`];
  const chain = chainClient({
    config: { chainId: 1, endpoints, quorum: 1, confirmation: { depth: 0 } },
    timeout: 20_000,
    connections: CONNECTIONS,
  });
  try {
    const reads = chainReads(chain);
    const calls = Array.from({ length: 8 }, () => reads.call(asked).catch(codeOf));
    await expect.poll(() => held).toBe(8);
    const own = Array.from({ length: 4 }, () => chain.head());
    const never = new Promise((resolve) => setTimeout(resolve, 5_000, 'nothing'));
    expect(await Promise.race([Promise.all(own), never])).toHaveLength(4);
    server.closeAllConnections();
    await Promise.all(calls);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("a contract's answer has a bound", async () => {
  const reads = chainReads({
    head: noCall,
    call: async () => `0x${'00'.repeat(CHAIN_REPLY_MAX_BYTES + 1)}`,
  });
  await expect(reads.call(asked)).rejects.toMatchObject({ code: 'CHAIN_REPLY_TOO_LARGE' });
});
