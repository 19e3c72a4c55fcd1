/**
 * The server of what the driver answers by itself, through the front: what is the node's own (node-paths.ts), and for everything
 * else the page that says why there is no app.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { readBytes } from '../../lib/daemon/http-body.ts';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { isNodePath, type NodeHandler } from './node-reply.ts';
import { unavailablePage, WAIT_SECONDS } from './unavailable.ts';

export interface AnswersOptions {
  /** Why there is nothing to show, now, at the name that a visitor asked for. */
  reason(host: string): string;
  /** Answers what is the node's own to answer, in place of the app. Never rejects. */
  node: NodeHandler;
}

/** The front's share of it (front-config.ts), and some. */
const CONNECTIONS = 256;

/** The server, not yet listening. */
export function answersServer({ reason, node }: AnswersOptions): Server {
  const server = createServer(HTTP_CHECKS, (request, response) => {
    // A connection that is not used again can't be misunderstood.
    response.setHeader('connection', 'close');
    const [method, target] = [request.method ?? '', request.url ?? ''];
    if (!isNodePath(target)) {
      request.resume();
      return unavailable(response, reason(request.headers.host ?? ''));
    }
    const read = (maxBytes: number) => bodyOf(request, maxBytes);
    void node({ method, target, read }).then(({ status, headers, body }) => {
      response.writeHead(status, headers);
      response.end(body);
      // Who still sends would lose the answer if the connection were closed: what nobody reads is dropped.
      request.resume();
    });
  });
  limitConnections(server, { connections: CONNECTIONS, perSource: CONNECTIONS });
  return server;
}

/** @throws BODY_TOO_LARGE, BODY_CUT */
async function bodyOf(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  try {
    return await readBytes(request.iterator({ destroyOnReturn: false }), maxBytes);
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('BODY_CUT', 'the connection ended before the body did', { cause });
  }
}

function unavailable(response: ServerResponse, reason: string): void {
  const page = unavailablePage(reason);
  response.writeHead(503, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(page),
    'cache-control': 'no-store',
    'retry-after': `${WAIT_SECONDS}`,
  });
  response.end(page);
}
