/**
 * What strangers can do to a relay from outside: push anything from their addresses, hold connections open, and register requests
 * that they never publish. They use the many addresses of the loopback interface.
 */
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { type RequestMessage, RequestMessageSchema } from '../../lib/protocol/onboarding-messages.ts';
import { check } from '../../lib/protocol/schema.ts';

/** The `nth` stranger's address. */
export const strangersAddress = (nth: number): string => `127.1.0.${1 + (nth % 200)}`;

/** Pushes a message to a relay from one of a stranger's addresses. The HTTP status; 0 when the relay is away. */
export function pushFrom(address: string, gossipUrl: string, message: RequestMessage): Promise<number> {
  return new Promise((resolve) => {
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', headers, localAddress: address, agent: false, timeout: 60_000 };
    const req = httpRequest(`${gossipUrl}/v1/gossip`, options, (res) => {
      res.resume().on('close', () => resolve(res.statusCode ?? 0));
    });
    req.on('timeout', () => req.destroy()).on('error', () => resolve(0));
    req.end(JSON.stringify(message));
  });
}

/** The requests that a relay gives to anyone. None when it is away. */
export async function requestsAt(gossipUrl: string): Promise<RequestMessage[]> {
  try {
    const reply = await fetch(`${gossipUrl}/v1/gossip`, { signal: AbortSignal.timeout(60_000) });
    const { messages } = (await reply.json()) as { messages: { type: string }[] };
    return messages
      .filter(({ type }) => type === 'request')
      .map((message) => check(RequestMessageSchema, message, 'TEST', 'a request'));
  } catch {
    return [];
  }
}

/** Connections from one address that send a little and then nothing. */
export function hold(address: string, url: string, count: number): Socket[] {
  const { hostname, port } = new URL(url);
  return Array.from({ length: count }, (_, nth) => {
    const socket = connect({ host: hostname, port: Number(port), localAddress: address });
    socket.resume().on('error', () => {});
    if (nth % 2 === 0)
      socket.on('connect', () => socket.write('GET /v1/gossip?wait=20 HTTP/1.1\r\nHost: x\r\n'));
    return socket;
  });
}
