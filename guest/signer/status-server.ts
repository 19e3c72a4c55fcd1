/** Where the status and the metrics are read: `GET /v1/status`, `GET /metrics`. They hold no secret, and answer whoever reaches them. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { SignerDaemon } from './daemon.ts';

/** @param listen `unix:///path`, or `tcp://127.0.0.1:port`. @throws SIGNER_CONFIG */
export async function serveStatus(
  listen: string,
  daemon: Pick<SignerDaemon, 'status' | 'metrics'>,
): Promise<Server> {
  const server = createServer(HTTP_CHECKS, (request, response) => {
    request.resume();
    if (request.method === 'GET' && request.url === '/v1/status') {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(daemon.status()));
    } else if (request.method === 'GET' && request.url === '/metrics') {
      response.setHeader('content-type', 'text/plain; version=0.0.4');
      response.end(daemon.metrics());
    } else {
      response.statusCode = 404;
      response.end();
    }
  });
  limitConnections(server, { connections: 32, perSource: 16 });
  const at = placeOf(listen);
  if ('path' in at) rmSync(at.path, { force: true });
  server.listen(at);
  await once(server, 'listening');
  return server;
}

/** For `listen`, and for whoever asks. @throws SIGNER_CONFIG */
export function placeOf(
  listen: string,
): { readonly path: string } | { readonly host: string; readonly port: number } {
  const path = /^unix:\/\/(\/.+)$/.exec(listen)?.[1];
  if (path !== undefined) return { path };
  const [, host, port] = /^tcp:\/\/(127\.0\.0\.1|\[::1\]):(\d{1,5})$/.exec(listen) ?? [];
  if (host === undefined || Number(port) > 65535) {
    throw new DstackError(
      'SIGNER_CONFIG',
      `status.listen: ${listen} is not unix:///path or tcp://127.0.0.1:port`,
    );
  }
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) };
}
