/** A place between two processes that every call passes, and where the caller or the called can be killed: before it arrived, or before it is answered. */
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What passes: a method of JSON-RPC, or a path. */
export type Watch = (label: string, when: 'before' | 'after') => Promise<void> | void;

export interface Toll {
  /** On the loopback, or the path of a socket. */
  readonly at: string;
  watch: Watch;
  stop(): void;
}

/** @param target a base URL, or the path of a socket. @param socket where to listen instead of a port */
export async function startToll(target: string, socket?: string): Promise<Toll> {
  const server: Server = createServer(async (incoming, outgoing) => {
    const body = await bytesOf(incoming).catch(() => undefined);
    if (body === undefined) return;
    const label = labelOf(incoming.url ?? '', body);
    await toll.watch(label, 'before');
    const place = target.startsWith('/') ? { socketPath: target } : {};
    const url = new URL(incoming.url ?? '/', target.startsWith('/') ? 'http://localhost' : target);
    const call = httpRequest(url, { ...place, method: incoming.method, headers: incoming.headers });
    call.on('error', () => outgoing.destroy());
    call.on('response', async (answer) => {
      const text = await bytesOf(answer).catch(() => undefined);
      await toll.watch(label, 'after');
      if (text === undefined) return outgoing.destroy();
      outgoing.writeHead(answer.statusCode ?? 500, { 'content-type': 'application/json' });
      outgoing.end(text);
    });
    call.end(body);
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) =>
    socket === undefined ? server.listen(0, '127.0.0.1', resolve) : server.listen(socket, resolve),
  );
  const toll: Toll = {
    at: socket ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    watch: () => {},
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
  return toll;
}

async function bytesOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function labelOf(path: string, body: Buffer): string {
  if (path !== '/') return path;
  return (JSON.parse(body.toString('utf8')) as { method: string }).method;
}
