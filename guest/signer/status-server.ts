/** Where the status and the metrics are read: `GET /v1/status`, `GET /metrics`. They hold no secret, and answer whoever reaches them. */
import { once } from 'node:events';
import { lstatSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { placeOf } from './config.ts';
import type { SignerDaemon } from './daemon.ts';

/**
 * Listens before the signer is there, so that one that cannot be seen never begins to sign.
 * @param listen as in the configuration @param daemon undefined until it has started
 * @throws SIGNER_STATUS where somebody else has that place
 */
export async function serveStatus(
  listen: string,
  daemon: () => Pick<SignerDaemon, 'status' | 'metrics'> | undefined,
): Promise<Server> {
  const server = createServer(HTTP_CHECKS, (request, response) => {
    request.resume();
    const started = daemon();
    if (request.method !== 'GET' || !['/v1/status', '/metrics'].includes(request.url ?? '')) {
      response.statusCode = 404;
      response.end();
    } else if (started === undefined) {
      response.statusCode = 503;
      response.end();
    } else if (request.url === '/v1/status') {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(started.status()));
    } else {
      response.setHeader('content-type', 'text/plain; version=0.0.4');
      response.end(started.metrics());
    }
  });
  limitConnections(server, { connections: 32, perSource: 16 });
  const at = placeOf(listen);
  if ('path' in at) await clear(at.path);
  server.listen(at);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw taken(`status.listen: ${listen} cannot be had: ${(cause as Error).message}`, cause);
  }
  return server;
}

/** Removes the socket of a signer that is gone, and nothing else. */
async function clear(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw taken(`status.listen: ${path} is there, is no socket, and is kept`);
  const socket = connect(path);
  const isServed = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  if (isServed) throw taken(`status.listen: somebody serves ${path} already: another signer?`);
  rmSync(path, { force: true });
}

const taken = (why: string, cause?: unknown): DstackError =>
  new DstackError('SIGNER_STATUS', why, cause === undefined ? {} : { cause });
