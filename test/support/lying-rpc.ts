/** JSON-RPC endpoints that misbehave: each is a small proxy in front of one honest chain, told how to lie. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export type RpcReply = { result?: unknown; error?: unknown };

/** Changes what the chain answered; undefined hangs up, 'stall' never answers, other text is sent as it is. */
export type Lie = (method: string, reply: RpcReply, params: readonly unknown[]) => Said | Promise<Said>;
type Said = RpcReply | string | undefined | 'stall';

export const honest: Lie = (_, reply) => reply;

export interface LyingRpc {
  readonly url: string;
  /** May be replaced at any time. */
  lie: Lie;
  /** Calls that are not passed on to the chain; `lie` then sees an empty reply. */
  swallows: (method: string, params: readonly unknown[]) => boolean;
  stop(): void;
}

/** @param upstream the honest endpoint */
export async function startLyingRpc(upstream: string): Promise<LyingRpc> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const { method, id, params } = JSON.parse(body) as { method: string; id: number; params?: unknown[] };
    const headers = { 'content-type': 'application/json' };
    const answer = rpc.swallows(method, params ?? [])
      ? new Response('{}')
      : await fetch(upstream, { method: 'POST', body, headers }).catch(() => undefined);
    if (answer === undefined) return response.destroy();
    const { result, error } = (await answer.json()) as RpcReply;
    const said = await rpc.lie(method, error === undefined ? { result } : { error }, params ?? []);
    if (said === undefined) return response.destroy();
    if (said === 'stall') return;
    response.end(typeof said === 'string' ? said : JSON.stringify({ jsonrpc: '2.0', id, ...said }));
  });
  // Longer than any client's connection is idle: closing one just when it is used again would not be a lie.
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const rpc: LyingRpc = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lie: honest,
    swallows: () => false,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
  return rpc;
}

/** Replaces fields of every block header. */
export function changeHeader(change: Record<string, unknown>): Lie {
  return (method, reply) =>
    method === 'eth_getBlockByNumber' ? { result: { ...(reply.result as object), ...change } } : reply;
}

export interface Header {
  number: number;
  timestamp: number;
  hash?: string;
}

const quantity = (value: number): string => `0x${value.toString(16)}`;

/** Shows a chain of these blocks and no other, the last as the newest: an honest endpoint of another time, or of another chain. */
export function showBlocks(headers: readonly Header[]): Lie {
  return (method, reply, [which]) => {
    if (method !== 'eth_getBlockByNumber') return reply;
    const header = String(which).startsWith('0x')
      ? headers.find(({ number }) => quantity(number) === which)
      : headers.at(-1);
    if (header === undefined) return { result: null };
    const { number, timestamp, hash = `0x${number.toString(16).padStart(64, '0')}` } = header;
    return { result: { number: quantity(number), hash, timestamp: quantity(timestamp) } };
  };
}

/** Answers as if `header` were still the newest block: true, but old. */
export function asOf(header: object): Lie {
  return (method, reply, [which]) =>
    method === 'eth_getBlockByNumber' && !String(which).startsWith('0x') ? { result: header } : reply;
}
