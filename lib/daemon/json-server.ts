/**
 * An HTTP server with JSON bodies (RFC 9110, 9112): a table of routes, a bound on each body, and one form of refusal.
 * serveUnix (unix-http.ts) puts it on a unix socket; the replicator puts it on the node port.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { DstackError } from '../protocol/errors.ts';
import { parseJson, readBytes, tooLarge } from './http-body.ts';
import { type ConnectionLimits, HTTP_CHECKS, limitConnections } from './server-limits.ts';

/** Handles one route: gets the parsed body (undefined without one) and returns what is sent as JSON. */
export type Route = (body: unknown) => unknown | Promise<unknown>;

/** `'GET /v1/status'` -> its handler. The query of a request is ignored. */
export type Routes = Readonly<Record<string, Route>>;

/** What a caller gets instead of an answer: an HTTP status, and `{code, message}` as the body. */
export interface Refusal {
  status: number;
  code: string;
  message: string;
}

/** What answers all paths below one. */
export interface RoutesBelow {
  /** `POST /v1/app/` */
  readonly key: string;
  /** @param path what follows, without a query */
  route(path: string, body: unknown): unknown | Promise<unknown>;
}

export interface JsonServerOptions {
  routes: Routes;
  below?: RoutesBelow;
  /** Bytes; by the route, as `POST /v1/request`, or the key of `below`, where they differ. */
  maxBodyBytes: number | ((route: string) => number);
  limits: ConnectionLimits;
  /** What the caller is told of an error: an HttpRefusal, or whatever a route threw. */
  refusalOf(error: unknown, request: IncomingMessage): Refusal;
}

/** A request that reaches no route, because of its path or its body. */
export class HttpRefusal extends DstackError {
  /** The HTTP status that says so, 4xx. */
  readonly status: number;

  constructor(status: number, code: string, message: string, options?: { cause: unknown }) {
    super(code, message, options);
    this.status = status;
  }
}

/**
 * The server, not yet listening. Refuses with an HttpRefusal: NO_ROUTE (404), BODY_TOO_LARGE (413), BODY_TYPE (415),
 * BODY_NOT_JSON and BODY_CUT (400).
 */
export function jsonServer(options: JsonServerOptions): Server {
  const server = createServer(HTTP_CHECKS, (request, response) => {
    const send = (status: number, text: string) => {
      response.writeHead(status, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
      });
      response.end(text);
      // A caller that is still sending would lose the answer if its connection were closed, so the rest is read and dropped,
      // for as long as a request may take to arrive.
      request.resume();
    };
    answer(request, options).then(
      (text) => send(200, text),
      (error: unknown) => {
        const { status, code, message } = options.refusalOf(error, request);
        send(status, JSON.stringify({ code, message }));
      },
    );
  });
  limitConnections(server, options.limits);
  return server;
}

async function answer(
  request: IncomingMessage,
  { routes, below, maxBodyBytes }: JsonServerOptions,
): Promise<string> {
  const [key, route] = routeOf(`${request.method} ${request.url?.split('?', 1)[0]}`, routes, below);
  if (route === undefined)
    throw new HttpRefusal(404, 'NO_ROUTE', `nothing here answers ${key.slice(0, 100)}`);
  const maxBytes = typeof maxBodyBytes === 'number' ? maxBodyBytes : maxBodyBytes(key);
  const body = request.method === 'GET' ? undefined : await readBody(request, maxBytes);
  return JSON.stringify((await route(body)) ?? {});
}

function routeOf(
  asked: string,
  routes: Routes,
  below: RoutesBelow | undefined,
): readonly [string, Route | undefined] {
  if (Object.hasOwn(routes, asked)) return [asked, routes[asked]];
  if (below === undefined || !asked.startsWith(below.key)) return [asked, undefined];
  return [below.key, (body) => below.route(asked.slice(below.key.length), body)];
}

/** A request's body; undefined when the framing says that there is none (RFC 9112, section 6.3). */
async function readBody(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const { headers } = request;
  const length = Number(headers['content-length'] ?? 0);
  if (headers['transfer-encoding'] === undefined && length === 0) return undefined;
  // A web page in a browser on the same machine can send other types without permission (Fetch, CORS-safelisted headers).
  if (!/^application\/json *(;|$)/i.test(headers['content-type'] ?? ''))
    throw new HttpRefusal(
      415,
      'BODY_TYPE',
      'a body has to be JSON and come as content-type application/json',
    );
  try {
    if (length > maxBytes) throw tooLarge(maxBytes);
    // The request must not be destroyed with the iterator: that closes the socket, and the refusal would be lost.
    const bytes = await readBytes(request.iterator({ destroyOnReturn: false }), maxBytes);
    return parseJson(bytes.toString('utf8'));
  } catch (cause) {
    if (!(cause instanceof DstackError))
      throw new HttpRefusal(400, 'BODY_CUT', 'the connection ended before the body did', { cause });
    throw new HttpRefusal(cause.code === 'BODY_TOO_LARGE' ? 413 : 400, cause.code, cause.message, { cause });
  }
}
