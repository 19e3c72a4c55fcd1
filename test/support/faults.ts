/**
 * What a hostile host can do to processes and to the connections between them: pause a process, cut a connection, let it hang,
 * redirect it, and deliver gossip in another order, twice, or not at all.
 */
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { eventually } from './network.ts';

/** Pauses a process (SIGSTOP). Resolves once the kernel shows it stopped. */
export async function pause(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await eventually(async () => stateOf(pid) === 'T', `process ${pid} to stand still`);
}

/** Lets it go on. */
export function resume(pid: number): void {
  process.kill(pid, 'SIGCONT');
}

/** The process's state as proc(5) shows it: `R`, `S`, `T`, … */
function stateOf(pid: number): string | undefined {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name before it may contain anything, so start after its last bracket.
  return stat.slice(stat.lastIndexOf(')') + 2)[0];
}

/** A connection to a server that can be cut: whoever may be partitioned from the server gets this address instead. */
export interface Link {
  /** Of the form `http://127.0.0.1:port`. */
  readonly url: string;
  /** Ends every connection and refuses new ones; if `silent`, accepts them and says nothing. */
  cut(how?: 'refused' | 'silent'): void;
  /** Works again; with another server if one is given. */
  heal(upstream?: string): void;
  stop(): Promise<void>;
}

/** @param upstream `http://host:port`; absent: cut until it is healed with one */
export async function startLink(upstream?: string): Promise<Link> {
  let target = upstream;
  let state: 'up' | 'refused' | 'silent' = upstream === undefined ? 'refused' : 'up';
  const open = new Set<Socket>();
  const keep = (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => open.delete(socket));
  };
  const server = createServer((near) => {
    keep(near);
    if (state === 'silent') return;
    if (state === 'refused') return void near.destroy();
    const { hostname, port } = new URL(target!);
    const far = connect(Number(port), hostname);
    keep(far);
    near.pipe(far).pipe(near);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  });
  const dropAll = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    url: await listening(server),
    cut(how = 'refused') {
      state = how;
      dropAll();
    },
    heal(next) {
      target = next ?? target;
      state = 'up';
      dropAll();
    },
    async stop() {
      dropAll();
      await closed(server);
    },
  };
}

/** What a meddler passes on instead of what it received. */
export type Meddling = (messages: unknown[]) => unknown[];

export interface GossipMeddler {
  /** In place of the relay's own gossip URL. */
  readonly url: string;
  meddle: Meddling;
  /** Messages that went through, either way. */
  readonly seen: unknown[];
  stop(): Promise<void>;
}

/** A peer between relays that changes every polled batch and every push: a push may become none, or many. */
export async function startGossipMeddler(upstream: string, meddle: Meddling): Promise<GossipMeddler> {
  const seen: unknown[] = [];
  const pass = async (path: string, body?: unknown) => {
    const init =
      body === undefined
        ? {}
        : {
            method: 'POST',
            body: JSON.stringify(body),
            headers: { 'content-type': 'application/json' },
          };
    const response = await fetch(`${upstream}${path}`, init);
    return { status: response.status, value: (await response.json()) as Record<string, unknown> };
  };
  const server = createHttpServer(async (request, response) => {
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      let reply: { status: number; value: unknown };
      if (request.method === 'POST') {
        const message: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        seen.push(message);
        reply = { status: 200, value: {} };
        for (const each of meddler.meddle([message])) reply = await pass(request.url!, each);
      } else {
        const { status, value } = await pass(request.url!);
        const messages = Array.isArray(value.messages) ? value.messages : [];
        seen.push(...messages);
        reply = { status, value: { ...value, messages: meddler.meddle(messages) } };
      }
      response.writeHead(reply.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(reply.value));
    } catch {
      response.destroy();
    }
  });
  const meddler: GossipMeddler = {
    url: await listening(server),
    meddle,
    seen,
    async stop() {
      server.closeAllConnections();
      await closed(server);
    },
  };
  return meddler;
}

async function listening(server: Server | HttpServer): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function closed(server: Server | HttpServer): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
