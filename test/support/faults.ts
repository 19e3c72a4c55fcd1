/**
 * What a hostile host can do to processes and to the connections between them: pause a process, cut a connection, let it hang,
 * redirect it, and deliver gossip in another order, twice, or not at all.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { gossipPaths } from '../../host/gossip/protocol.ts';
import { eventually } from './network.ts';

/** Pauses a process (SIGSTOP). Resolves once the kernel shows all of it stopped: on a busy machine one thread may stop long before another. */
export async function pause(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const standsStill = async () => statesOf(pid).every((state) => state === 'T');
  await eventually(standsStill, `process ${pid} to stand still`);
}

/** Lets it go on. */
export function resume(pid: number): void {
  process.kill(pid, 'SIGCONT');
}

/** The states of its threads as proc(5) shows them: `R`, `S`, `T`, … */
function statesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    // The name before it may contain anything, so start after its last bracket.
    return stat.slice(stat.lastIndexOf(')') + 2)[0]!;
  });
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

/** What a meddler passes on instead of what it received: ids, or messages as a reply or a push has them. */
export type Meddling = <Item>(items: Item[]) => Item[];

export interface GossipMeddler {
  /** In place of the relay's own gossip URL. */
  readonly url: string;
  meddle: Meddling;
  /** Ids and messages that went through, either way. */
  readonly seen: unknown[];
  stop(): Promise<void>;
}

/** A peer between relays that changes every list of ids, every reply with bodies, and every push: a push may become none, or many. */
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
  const meddled = (items: unknown): unknown[] => {
    const list = Array.isArray(items) ? items : [];
    seen.push(...list);
    return meddler.meddle(list);
  };
  const answer = async (path: string, body: unknown) => {
    if (body === undefined) {
      const { status, value } = await pass(path);
      return { status, value: { ...value, ids: meddled(value.ids) } };
    }
    if (path === gossipPaths.bodies) {
      const { status, value } = await pass(path, body);
      return { status, value: { ...value, messages: meddled(value.messages) } };
    }
    if (path === gossipPaths.ids) {
      const ids = meddled((body as { ids: unknown }).ids);
      return ids.length === 0 ? { status: 200, value: { wanted: [], later: [] } } : pass(path, { ids });
    }
    if (path !== gossipPaths.messages) return pass(path, body);
    let reply: { status: number; value: unknown } = { status: 200, value: {} };
    for (const each of meddled([body])) reply = await pass(path, each);
    return reply;
  };
  const server = createHttpServer(async (request, response) => {
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body: unknown =
        request.method === 'POST' ? JSON.parse(Buffer.concat(chunks).toString('utf8')) : undefined;
      const reply = await answer(request.url!, body);
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
