/** A chain in memory behind an endpoint over HTTP, for relays that are processes of their own. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { PacedChain } from './paced-chain.ts';

export interface ServedChain {
  readonly url: string;
  close(): void;
}

export async function serveChain(chain: PacedChain): Promise<ServedChain> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { id, method, params } = JSON.parse(body) as { id: number; method: string; params: unknown[] };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: chain.answer(method, params) }));
  });
  // Longer than any client's connection is idle.
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
