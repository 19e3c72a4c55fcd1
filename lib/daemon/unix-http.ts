/**
 * HTTP with JSON bodies over a unix socket: how the guest's daemons talk. The socket's permissions are the access control, so
 * a server sets them before it accepts a connection.
 */
import { chmodSync, chownSync, rmSync } from 'node:fs';
import { request, type Server } from 'node:http';
import type { Server as NetServer } from 'node:net';
import type { TSchema } from 'typebox';
import { codeOf, DstackError } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { answerTo } from './http-answer.ts';
import { parseJson, readText } from './http-body.ts';
import { HttpRefusal, jsonServer, type Refusal, type Routes } from './json-server.ts';

export interface UnixServerOptions {
  path: string;
  routes: Routes;
  /** The group that may connect; without it, only the owner may. */
  gid?: number | undefined;
  mode?: number;
  maxBodyBytes?: number;
}

/** More than all siblings together use: each call is a connection, and the agent makes one for each call of an app. */
const MAX_CONNECTIONS = 1024;

/** Serves `routes` on a unix socket; resolves when it listens with its permissions set. */
export async function serveUnix(options: UnixServerOptions): Promise<Server> {
  const server = jsonServer({
    routes: options.routes,
    maxBodyBytes: options.maxBodyBytes ?? 64 * 1024,
    // Only siblings can connect, and one that misbehaves must not take the daemon down.
    limits: { connections: MAX_CONNECTIONS, perSource: MAX_CONNECTIONS },
    refusalOf,
  });
  await listenUnix(server, options);
  return server;
}

/** Has `server` listen on a unix socket that its owner, and the group of `gid`, may connect to; resolves when it does. */
export async function listenUnix(
  server: NetServer,
  options: Pick<UnixServerOptions, 'path' | 'gid' | 'mode'>,
): Promise<void> {
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
}

/** The text of an unforeseen error may contain anything, so it stays in the daemon. */
function refusalOf(error: unknown): Refusal {
  const code = codeOf(error);
  // Any other code is the caller's fault.
  const status = code === 'INTERNAL' ? 500 : code === 'NOT_READY' ? 503 : 400;
  return {
    status: error instanceof HttpRefusal ? error.status : status,
    code,
    message: error instanceof DstackError ? error.message : "internal error; see the daemon's log",
  };
}

export interface UnixCallOptions<T extends TSchema> {
  path: string;
  method: 'GET' | 'POST';
  route: string;
  body?: unknown;
  reply: T;
  /** How long to keep trying while the socket is missing or refuses; 0 tries once. Milliseconds. */
  connectWithin?: number;
  /** How long the answer may take; absent: forever, since some answers wait for the node to join. Milliseconds. */
  timeout?: number;
}

/**
 * One call to a sibling daemon; the reply is checked against its schema.
 * @throws the sibling's own code, SOCKET_UNREACHABLE, SOCKET_TIMEOUT, SOCKET_REPLY
 */
export async function callUnix<T extends TSchema>(
  options: UnixCallOptions<T>,
): Promise<import('typebox').Static<T>> {
  // Monotonic: the host sets the machine's clock.
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
      // A new connection: a kept one may lead to a server that is gone.
      agent: false,
      headers:
        body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      ...(options.timeout === undefined ? {} : { signal: AbortSignal.timeout(options.timeout) }),
    });
    const fail = (cause: Error) => {
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
    };
    answerTo(req).then((res) => {
      readText(res, 1024 * 1024)
        .then((text) => {
          const value = parseJson(text);
          if (res.statusCode === 200)
            return check(options.reply, value, 'SOCKET_REPLY', `the reply to ${options.route}`);
          const { code, message } = value as { code?: unknown; message?: unknown };
          throw new DstackError(
            typeof code === 'string' ? code : 'SOCKET_REPLY',
            String(message ?? 'refused'),
          );
        })
        .then(resolve, reject);
    }, fail);
    req.end(body);
  });
}
