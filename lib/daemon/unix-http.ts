/**
 * HTTP with JSON bodies over a unix socket: how the guest's daemons talk. The socket's permissions are the access
 * control, so a server sets them before it accepts anything.
 */
import { chmodSync, chownSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { TSchema } from 'typebox';
import { codeOf, DstackError } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { HTTP_CHECKS, limitConnections } from './server-limits.ts';

/** Answers one route: gets the parsed body (undefined for GET), returns what is sent as JSON. */
export type Route = (body: unknown) => unknown | Promise<unknown>;

export interface UnixServerOptions {
  path: string;
  /** `'GET /v1/status'` -> handler */
  routes: Record<string, Route>;
  /** Group that may connect; without it only the owner may. */
  gid?: number | undefined;
  mode?: number;
  maxBodyBytes?: number;
}

/** More than all siblings together have: each call is a connection, and the agent makes one for each call of an app. */
const MAX_CONNECTIONS = 1024;

/** HTTP status of a refusal by its code; what is not listed is the caller's fault. */
const statusOf = (code: string): number => (code === 'INTERNAL' ? 500 : code === 'NOT_READY' ? 503 : 400);

/** Serves `routes` on a unix socket; resolves when it listens with its permissions set. */
export async function serveUnix(options: UnixServerOptions): Promise<Server> {
  const maxBytes = options.maxBodyBytes ?? 64 * 1024;
  const server = createServer(HTTP_CHECKS, (req, res) => {
    answer(req, options.routes, maxBytes).then(
      (body) => send(res, 200, body),
      (error) => {
        const code = codeOf(error);
        const message = error instanceof DstackError ? error.message : 'internal error; see the daemon’s log';
        send(res, error instanceof NotFound ? 404 : statusOf(code), { code, message });
      },
    );
  });
  // Only siblings reach it, and one gone wild must not take the daemon with it.
  limitConnections(server, { connections: MAX_CONNECTIONS, perSource: MAX_CONNECTIONS });
  rmSync(options.path, { force: true });
  // The umask keeps the socket closed to others between its creation and the chmod.
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.path, resolve);
    });
  } finally {
    process.umask(umask);
  }
  if (options.gid !== undefined) chownSync(options.path, -1, options.gid);
  chmodSync(options.path, options.mode ?? (options.gid === undefined ? 0o600 : 0o660));
  return server;
}

class NotFound extends DstackError {}

async function answer(
  req: IncomingMessage,
  routes: Record<string, Route>,
  maxBytes: number,
): Promise<unknown> {
  const key = `${req.method} ${req.url}`;
  const route = Object.hasOwn(routes, key) ? routes[key] : undefined;
  if (route === undefined) throw new NotFound('NO_ROUTE', `nothing here answers ${key.slice(0, 100)}`);
  return route(req.method === 'GET' ? undefined : await readJson(req, maxBytes));
}

/** The body of a request or a reply as JSON, refused beyond `maxBytes`. @throws BODY_TOO_LARGE, BODY_NOT_JSON */
export async function readJson(stream: IncomingMessage, maxBytes: number): Promise<unknown> {
  const text = await readText(stream, maxBytes);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DstackError('BODY_NOT_JSON', 'the body is not JSON', { cause });
  }
}

/** The body as it is, refused beyond `maxBytes`. @throws BODY_TOO_LARGE */
export async function readText(stream: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      stream.destroy();
      throw new DstackError('BODY_TOO_LARGE', `a body of more than ${maxBytes} bytes is not read`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function send(res: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body ?? {});
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  res.end(text);
}

export interface UnixCallOptions<T extends TSchema> {
  path: string;
  method: 'GET' | 'POST';
  route: string;
  body?: unknown;
  reply: T;
  /** How long to go on trying while the socket is not there or refuses; 0 tries once. Milliseconds. */
  connectWithin?: number;
  /** How long the answer may take; absent: for ever, since some answers wait for the node to join. Milliseconds. */
  timeout?: number;
}

/**
 * One call to a sibling daemon; the reply is checked against its schema.
 * @throws the sibling's own code, SOCKET_UNREACHABLE, SOCKET_TIMEOUT, SOCKET_REPLY
 */
export async function callUnix<T extends TSchema>(
  options: UnixCallOptions<T>,
): Promise<import('typebox').Static<T>> {
  // Monotonic: the machine's clock is the host's to set.
  const deadline = performance.now() + (options.connectWithin ?? 0);
  for (;;) {
    try {
      return await callOnce(options);
    } catch (error) {
      const absent = error instanceof DstackError && error.code === 'SOCKET_UNREACHABLE';
      if (!absent || performance.now() >= deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

function callOnce<T extends TSchema>(options: UnixCallOptions<T>): Promise<import('typebox').Static<T>> {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  return new Promise((resolve, reject) => {
    const req = request({
      socketPath: options.path,
      method: options.method,
      path: options.route,
      // A connection of its own: a kept one may lead to a server that is gone.
      agent: false,
      headers:
        body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      ...(options.timeout === undefined ? {} : { signal: AbortSignal.timeout(options.timeout) }),
    });
    req.on('error', (cause: NodeJS.ErrnoException) => {
      const timedOut = cause.name === 'TimeoutError' || cause.name === 'AbortError';
      reject(
        timedOut
          ? new DstackError('SOCKET_TIMEOUT', `${options.path} did not answer ${options.route} in time`, {
              cause,
            })
          : new DstackError('SOCKET_UNREACHABLE', `cannot reach ${options.path}: ${cause.message}`, {
              cause,
            }),
      );
    });
    req.on('response', (res) => {
      readJson(res, 1024 * 1024)
        .then((value) => {
          if (res.statusCode === 200)
            return check(options.reply, value, 'SOCKET_REPLY', `the reply to ${options.route}`);
          const { code, message } = value as { code?: unknown; message?: unknown };
          throw new DstackError(
            typeof code === 'string' ? code : 'SOCKET_REPLY',
            String(message ?? 'refused'),
          );
        })
        .then(resolve, reject);
    });
    req.end(body);
  });
}
