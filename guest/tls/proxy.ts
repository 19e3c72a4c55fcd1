/**
 * The reverse proxy: every request on the TLS side becomes one request to the upstream that kubernethes names. Bodies
 * stream both ways and are never held in memory; sizes and times are bounded.
 */
import { Agent, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Duplex, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Log } from '../../lib/daemon/log.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { UpstreamReply } from '../../lib/protocol/sockets.ts';
import type { Credentials } from './certificate.ts';
import { isNodePath, type NodeReply, type NodeRequest } from './evidence.ts';
import { requestHeaders, responseHeaders } from './headers.ts';
import { unavailable } from './unavailable.ts';

export interface ProxyOptions {
  credentials: Credentials;
  /** Asks kubernethes. @throws NOT_READY with the reason, SOCKET_… */
  upstream(): Promise<UpstreamReply>;
  /** Answers what is the node's own to answer, in place of the app. */
  node(request: NodeRequest): Promise<NodeReply>;
  log: Log<'warn'>;
  /** The largest request body, in bytes. */
  maxBodyBytes?: number;
  /** How long the app may take to begin its answer; how long a connection may be silent. Milliseconds. */
  answerWithin?: number;
  silence?: number;
}

const HEADERS_MAX = 16 * 1024;
/** How long an answer of kubernethes is good for. Milliseconds. */
const FRESH = 1_000;

/** TLS 1.2 and 1.3 with forward secrecy and AEAD only; a hybrid post-quantum group first. */
const tlsOptions = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
  ].join(':'),
  ecdhCurve: 'X25519MLKEM768:X25519:prime256v1',
  ALPNProtocols: ['http/1.1'],
} as const;

/** The server, not yet listening. */
export function proxyServer(options: ProxyOptions): Server {
  const {
    credentials,
    log,
    maxBodyBytes = 100 * 1024 * 1024,
    answerWithin = 60_000,
    silence = 600_000,
  } = options;
  const upstream = remembered(options.upstream);
  // Strangers choose how often they ask: what is logged is that something changed.
  let lastReason = '';
  const complain = (status: number, reason: string) => {
    if (reason !== lastReason) log.warn({ status }, `not proxied: ${reason}`);
    lastReason = reason;
  };
  // A connection to the app carries one request: what an app reads wrongly of one visitor's can't become another's.
  const agent = new Agent({ keepAlive: false, maxSockets: 256, timeout: silence });

  async function forward(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    if (Number(incoming.headers['content-length'] ?? 0) > maxBodyBytes) {
      return unavailable(response, 413, `a request has at most ${maxBodyBytes} bytes`);
    }
    if (isCodedOtherwise(incoming))
      return unavailable(response, 501, 'of transfer codings only chunked is known');
    const target = await upstream.ask();
    const { headers, ...rest } = common(incoming, target);
    // Node frames the bodies of some methods by itself; of any, what came in chunks goes on in chunks.
    const framing = hasChunks(incoming) ? ['Transfer-Encoding', 'chunked'] : [];
    const outgoing = request({ ...rest, headers: [...headers, ...framing], agent });
    const late = setTimeout(() => outgoing.destroy(lateError(target)), answerWithin);
    response.on('close', () => outgoing.destroy());
    outgoing.on('response', (answer) => {
      clearTimeout(late);
      lastReason = '';
      if (!isFinal(answer)) {
        outgoing.destroy(malformedError(target, 'a status line that is no answer'));
        return;
      }
      response.writeHead(answer.statusCode!, answer.statusMessage, responseHeaders(answer.rawHeaders));
      pipeline(answer, response).catch(() => response.destroy());
    });
    // Without a listener Node ends such a connection without a word.
    outgoing.on('upgrade', () =>
      outgoing.destroy(malformedError(target, 'a change of protocol that nobody asked for')),
    );
    const failed = new Promise<void>((_, reject) => {
      outgoing.on('error', (cause) => {
        clearTimeout(late);
        reject(cause instanceof DstackError ? cause : brokenError(target, cause));
      });
    });
    const done = new Promise<void>((resolve) => response.on('close', resolve));
    await Promise.race([Promise.all([pipeline(incoming, limited(maxBodyBytes), outgoing), done]), failed]);
  }

  /** WebSocket (RFC 6455): the handshake is forwarded, then bytes pass both ways untouched. */
  async function upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if (incoming.headers.upgrade?.toLowerCase() !== 'websocket') {
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      return;
    }
    // Its bytes would be taken for the WebSocket's first, or for a request of their own.
    if (hasChunks(incoming) || Number(incoming.headers['content-length'] ?? 0) !== 0) {
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      return;
    }
    const target = await upstream.ask();
    const { headers, ...rest } = common(incoming, target);
    const outgoing = request({
      ...rest,
      headers: [...headers, 'Connection', 'Upgrade', 'Upgrade', 'websocket'],
      agent: false,
    });
    socket.on('close', () => outgoing.destroy());
    outgoing.setTimeout(answerWithin, () => outgoing.destroy(lateError(target)));
    outgoing.on('error', () => socket.destroy());
    outgoing.on('response', (answer) => {
      socket.end(`HTTP/1.1 ${answer.statusCode} Refused\r\nConnection: close\r\n\r\n`);
      answer.resume();
    });
    outgoing.on('upgrade', (answer, back, first) => {
      const lines = pairLines(responseHeaders(answer.rawHeaders));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines}\r\n`,
      );
      socket.write(first);
      back.write(head);
      join(socket, back, silence);
    });
    outgoing.end();
  }

  const server = createServer(
    {
      ...tlsOptions,
      key: credentials.key.export({ type: 'pkcs8', format: 'pem' }),
      cert: credentials.certificate,
      maxHeaderSize: HEADERS_MAX,
    },
    (incoming, response) => {
      if (isNodePath(incoming.url!)) {
        options
          .node({ method: incoming.method!, target: incoming.url! })
          .then(({ status, headers, body }) => {
            response.writeHead(status, headers).end(body);
          });
        return;
      }
      forward(incoming, response).catch((error: unknown) => {
        upstream.forget();
        const { status, reason } = explain(error);
        complain(status, reason);
        unavailable(response, status, reason);
      });
    },
  );
  server.on('upgrade', (incoming, socket, head) => {
    socket.on('error', () => socket.destroy());
    upgrade(incoming, socket, head).catch((error: unknown) => {
      upstream.forget();
      complain(503, explain(error).reason);
      socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\r\n');
    });
  });
  server.headersTimeout = 15_000;
  server.requestTimeout = 300_000;
  server.keepAliveTimeout = 15_000;
  server.timeout = silence;
  server.maxConnections = 1_000;
  server.on('close', () => agent.destroy());
  return server;
}

const hasChunks = ({ headers }: IncomingMessage): boolean => headers['transfer-encoding'] !== undefined;

/** A coding besides chunked would be lost on the way, since Transfer-Encoding is of one hop (RFC 9112, 6.1). */
const isCodedOtherwise = (incoming: IncomingMessage): boolean =>
  hasChunks(incoming) && incoming.headers['transfer-encoding']!.trim().toLowerCase() !== 'chunked';

/** A status of RFC 9110, 15, that ends an exchange, with a reason phrase of RFC 9112, 4. */
const isFinal = ({ statusCode = 0, statusMessage = '' }: IncomingMessage): boolean =>
  statusCode >= 200 && statusCode <= 599 && /^[\t\x20-\x7e\x80-\xff]*$/.test(statusMessage);

function common(incoming: IncomingMessage, target: UpstreamReply) {
  const address = incoming.socket.remoteAddress?.replace(/^::ffff:/, '') ?? 'unknown';
  return {
    host: target.host,
    port: target.port,
    method: incoming.method!,
    path: incoming.url!,
    maxHeaderSize: HEADERS_MAX,
    headers: [...requestHeaders(incoming.rawHeaders, { address, host: incoming.headers.host ?? '' })],
  };
}

/** Asks kubernethes at most once in a while; a failure makes it ask again. */
function remembered(ask: () => Promise<UpstreamReply>) {
  let known: { reply: Promise<UpstreamReply>; at: number } | undefined;
  return {
    async ask(): Promise<UpstreamReply> {
      if (known === undefined || performance.now() - known.at > FRESH)
        known = { reply: ask(), at: performance.now() };
      const reply = await known.reply;
      assertForeign(reply.host);
      return reply;
    },
    forget() {
      known = undefined;
    },
  };
}

/** Both ways until both are done; a side that breaks, or is silent for too long, takes the other with it. */
function join(socket: Duplex, back: Socket, silence: number): void {
  back.setTimeout(silence, () => back.destroy());
  back.on('error', () => socket.destroy());
  back.on('close', () => socket.end());
  socket.on('close', () => back.destroy());
  socket.pipe(back).pipe(socket);
}

/** Never to an address of the guest: the agent listens there, and it answers by address. */
function assertForeign(host: string): void {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  if (own.some(({ address, internal }) => address === host && !internal)) {
    throw new DstackError('UPSTREAM_OWN', `${host} is the node's own address, not a container's`);
  }
}

function limited(maxBytes: number): Transform {
  let size = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size <= maxBytes) done(null, chunk);
      else done(new DstackError('BODY_TOO_LARGE', `a request has at most ${maxBytes} bytes`));
    },
  });
}

function lateError(target: UpstreamReply): DstackError {
  return new DstackError('UPSTREAM_LATE', `${target.app} took too long to answer`);
}

function malformedError(target: UpstreamReply, what: string): DstackError {
  return new DstackError('UPSTREAM_MALFORMED', `${target.app} answers something that is not HTTP (${what})`);
}

function brokenError(target: UpstreamReply, cause: NodeJS.ErrnoException): DstackError {
  // Node's parser is strict, which is what keeps two readers of one answer in agreement; the app's author should know.
  if (cause.code?.startsWith('HPE_')) {
    return malformedError(target, cause.code);
  }
  return new DstackError('UPSTREAM_BROKEN', `${target.app} does not answer`, { cause });
}

function explain(error: unknown): { status: 413 | 502 | 503 | 504; reason: string } {
  if (!(error instanceof DstackError)) return { status: 502, reason: 'the request or the answer broke off' };
  if (error.code === 'NOT_READY') return { status: 503, reason: error.message };
  if (error.code.startsWith('SOCKET_')) return { status: 503, reason: 'the node is still starting' };
  if (error.code === 'BODY_TOO_LARGE') return { status: 413, reason: error.message };
  if (error.code === 'UPSTREAM_MALFORMED') return { status: 502, reason: error.message };
  return { status: error.code === 'UPSTREAM_LATE' ? 504 : 503, reason: error.message };
}

function pairLines(raw: readonly string[]): string {
  return raw.map((item, i) => (i % 2 === 0 ? `${item}: ` : `${item}\r\n`)).join('');
}
