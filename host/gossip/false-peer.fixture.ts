/** A peer that speaks the protocol of gossip and says in it what a test wants. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { idOf } from './message-kind.ts';

export interface FalsePeer {
  url: string;
  /** What it was asked for, in order: each id as often as it was asked. */
  asked: string[];
  /** Polls so far. */
  polls(): number;
  close(): Promise<void>;
}

export interface Says {
  /** What it announces, at the first poll and at every one; by default the ids of what it has. */
  ids?: readonly string[];
  /** What it has. */
  messages?: readonly unknown[];
  /** What it sends for these ids, in place of what it has; undefined: nothing, ever. */
  bodies?: (ids: readonly string[]) => { messages: unknown[]; missing: string[] } | undefined;
}

export async function startFalsePeer(says: Says, address = '127.0.0.1'): Promise<FalsePeer> {
  const { messages = [], bodies = (ids) => honest(messages, ids) } = says;
  const ids = says.ids ?? messages.map((message) => idOf(message) ?? '').filter((id) => id !== '');
  const asked: string[] = [];
  let polls = 0;
  const server = createServer(async (request, response) => {
    const body = await bodyOf(request);
    response.setHeader('content-type', 'application/json');
    if (request.url!.startsWith('/none')) response.writeHead(404).end('{}');
    else if (request.method === 'GET') {
      polls += 1;
      const after = Number(new URL(request.url!, 'http://x').searchParams.get('after') ?? 0);
      const news = ids.slice(after, after + 256);
      const next = after + news.length;
      // A long poll of nothing is answered slowly, as by anyone.
      if (news.length === 0) await new Promise((resolve) => setTimeout(resolve, 300));
      response.end(
        JSON.stringify({ protocol: 2, key: 'ab'.repeat(32), log: '00'.repeat(16), next, ids: news }),
      );
    } else if (request.url === '/v1/gossip/bodies') {
      const wanted = (JSON.parse(body) as { ids: string[] }).ids;
      asked.push(...wanted);
      const reply = bodies(wanted);
      if (reply !== undefined) response.end(JSON.stringify(reply));
    } else response.end(JSON.stringify({ wanted: [], later: [], ids: [] }));
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return {
    url: `http://${address}:${(server.address() as AddressInfo).port}`,
    asked,
    polls: () => polls,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function honest(
  messages: readonly unknown[],
  ids: readonly string[],
): { messages: unknown[]; missing: string[] } {
  const found = messages.filter((message) => ids.includes(idOf(message) ?? ''));
  const known = new Set(found.map((message) => idOf(message)));
  return {
    messages: found.map((message) => ({ message })),
    missing: ids.filter((id) => !known.has(id as never)),
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}
