import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Type } from 'typebox';
import { afterEach, expect, test } from 'vitest';
import { rpcEndpoint } from './json-rpc.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

/** An endpoint that answers, or cuts the connection when `cuts` says so of a request: how many of its connection came before. */
async function startEndpoint(cuts: (before: number) => boolean) {
  const asked: string[] = [];
  const served = new WeakMap<object, number>();
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { id, method } = JSON.parse(Buffer.concat(chunks).toString());
    asked.push(method);
    const before = served.get(request.socket) ?? 0;
    served.set(request.socket, before + 1);
    if (cuts(before)) request.socket.destroy();
    else response.end(JSON.stringify({ jsonrpc: '2.0', id, result: '0x1' }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { endpoint: rpcEndpoint(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), asked };
}

const READ = 'eth_blockNumber';
const SEND = 'eth_sendRawTransaction';

test('a read on a kept connection that the endpoint closes is asked once more, on a new one', async () => {
  const { endpoint, asked } = await startEndpoint((before) => before > 0);
  for (let n = 0; n < 4; n += 1) {
    expect(await endpoint.call(Type.String(), READ, [])).toBe('0x1');
  }
  expect(asked.length).toBeLessThanOrEqual(8);
});

test('a transaction is not: whoever sends it decides', async () => {
  const { endpoint, asked } = await startEndpoint((before) => before > 0);
  await endpoint.call(Type.String(), READ, []);
  await expect(endpoint.call(Type.String(), SEND, ['0x00'])).rejects.toMatchObject({
    code: 'RPC_UNREACHABLE',
  });
  expect(asked).toEqual([READ, SEND]);
});

test('an endpoint that closes every connection is asked once and not again at once', async () => {
  const { endpoint, asked } = await startEndpoint(() => true);
  await expect(endpoint.call(Type.String(), READ, [])).rejects.toMatchObject({ code: 'RPC_UNREACHABLE' });
  expect(asked).toEqual([READ]);
});
