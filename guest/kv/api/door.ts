/**
 * The only way into the store: a port, in the clear or with TLS, on which HTTP/2 and HTTP/1.1 are spoken. Who calls is known before a byte
 * of what it says is read. Connections, streams, headers, requests and idle time are bounded.
 */
import { constants as constantsOfTls } from 'node:crypto';
import { createServer as createHttp1, type Server as Http1Server } from 'node:http';
import {
  constants,
  createServer as createHttp2,
  type Http2Server,
  Http2ServerRequest,
  Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTls, type TLSSocket, type TlsOptions } from 'node:tls';
import type { Log } from '../../../lib/daemon/log.ts';
import { type ConnectionLimits, HTTP_CHECKS, limitConnections } from '../../../lib/daemon/server-limits.ts';
import type { KvLedger } from '../ledger/ledger.ts';
import type { Caller, ServedMethod } from '../types.ts';
import { Budget, Pool } from './budget.ts';
import { Gateway, pathOf, type Request, type Response } from './gateway.ts';
import { GrpcServer } from './grpc-server.ts';
import { answerInfo, type Condition, hasInfo, type RootOf } from './info.ts';
import { LogAnswers } from './log.ts';
import type { Metrics } from './metrics.ts';
import { type SessionTimes, watchOver } from './session.ts';
import { Unsent } from './unsent.ts';

export interface DoorOptions {
  readonly methods: readonly ServedMethod[];
  /** Who is at the other end. @throws to refuse it */
  readonly callerOf: (socket: Socket | TLSSocket) => Caller | Promise<Caller>;
  /** Whether it is still that caller's; asked every two seconds. Left out, it is as long as it lasts. Never throws. */
  readonly isStill?: (socket: Socket, caller: Caller) => Promise<boolean>;
  readonly tls?: TlsOptions;
  readonly clientsRoot?: RootOf;
  readonly limits?: ConnectionLimits;
  /** Of a session that is quiet. */
  readonly times?: SessionTimes;
  /** How long a message may take to arrive, milliseconds. */
  readonly messageWithin?: number;
  readonly condition: Condition;
  readonly metrics: Metrics;
  readonly log: Log<'warn'>;
  readonly ledger?: KvLedger;
}

const DEFAULT_LIMITS: ConnectionLimits = { connections: 4096, perSource: 1024 };
/** How soon it must be seen which protocol is spoken. Milliseconds. */
const PROTOCOL_WITHIN = 10_000;
const HEADERS_WITHIN = 10_000;
const MESSAGE_WITHIN = 30_000;
/** Between two looks at whose a connection is. Milliseconds. */
const LOOK_AGAIN_EVERY = 2_000;
/** Bytes of requests that are not complete or not answered: of one connection, and of all. */
const HELD = { perConnection: 16 * 1024 * 1024, all: 64 * 1024 * 1024 };
/** Between two lines of one reason. Milliseconds. */
const TOLD_EVERY = 60_000;
const STREAMS = 1024;
const HEADER_BYTES = 16 * 1024;
const STREAM_WINDOW = 256 * 1024;
const SESSION_WINDOW = 4 * 1024 * 1024;
/** Megabytes that a session may hold, its unsent answers among them. */
const SESSION_MEMORY = 64;

export class Door {
  /** Not listening yet. */
  readonly server: Server;
  readonly #options: DoorOptions;
  readonly #grpc: GrpcServer;
  readonly #gateway: Gateway;
  readonly #logAnswers: LogAnswers | undefined;
  readonly #http2: Http2Server;
  readonly #http1: Http1Server;
  readonly #pool = new Pool(HELD.all);
  readonly #callers = new WeakMap<object, Caller>();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  /** When it was last said why a handshake failed. */
  readonly #told = new Map<string, number>();

  constructor(options: DoorOptions) {
    this.#options = options;
    const { methods, metrics, log, messageWithin = MESSAGE_WITHIN } = options;
    const unsent = new Unsent();
    const served = { metrics, log, unsent, messageWithin };
    this.#grpc = new GrpcServer(methods, served);
    this.#gateway = new Gateway(methods, served);
    this.#logAnswers = options.ledger && new LogAnswers(options.ledger, unsent);
    this.#http2 = this.#makeHttp2();
    this.#http1 = this.#makeHttp1();
    this.server = options.tls === undefined ? createServer({ noDelay: true }) : createTls(tlsOf(options.tls));
    limitConnections(this.server, options.limits ?? DEFAULT_LIMITS);
    this.server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
      this.#admit(socket).catch(() => socket.destroy());
    });
    this.server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      this.#tell(error, socket);
      socket.destroy();
    });
  }

  /**
   * Why a handshake failed, once a minute for each reason. A client is not told of a certificate that is refused, since Node sends no alert: it sees
   * the connection end.
   */
  #tell({ code = '' }: NodeJS.ErrnoException, { authorizationError }: TLSSocket): void {
    const why = typeof authorizationError === 'string' ? authorizationError : code;
    const now = performance.now();
    // Who only looks whether the port is open says nothing at all.
    if (why === 'ECONNRESET' || now - (this.#told.get(why) ?? Number.NEGATIVE_INFINITY) < TOLD_EVERY) return;
    this.#told.set(why, now);
    this.#options.log.warn(
      { code: why },
      "a client's TLS is refused: the certificate that it shows, or that it shows none, or that it speaks no TLS",
    );
  }

  /** Takes nobody any more, lets calls end for a while, then ends them. */
  async close(grace = 1000): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, grace);
    this.#http1.closeIdleConnections();
    await closed;
    clearTimeout(timer);
  }

  async #admit(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    const caller = await this.#options.callerOf(socket);
    if (socket.destroyed) return;
    this.#lookAgain(socket, caller);
    const head = await firstBytes(socket);
    if (head === undefined) return;
    socket.unshift(head);
    this.#callers.set(socket, caller);
    const isHttp2 = head.subarray(0, PRI.length).equals(PRI);
    this.#speaking = socket;
    (isHttp2 ? this.#http2 : this.#http1).emit('connection', socket);
    this.#speaking = undefined;
  }

  /** Ends a connection, and whatever is asked and watched on it, once it is no longer its caller's. */
  #lookAgain(socket: Socket, caller: Caller): void {
    const { isStill } = this.#options;
    if (isStill === undefined) return;
    let looking: NodeJS.Timeout;
    const look = async (): Promise<void> => {
      if (!(await isStill(socket, caller))) socket.destroy();
      else if (!socket.destroyed) looking = setTimeout(look, LOOK_AGAIN_EVERY).unref();
    };
    looking = setTimeout(look, LOOK_AGAIN_EVERY).unref();
    socket.once('close', () => clearTimeout(looking));
  }

  /** The connection that node:http2 makes a session of right now. */
  #speaking: Socket | undefined;

  #makeHttp2(): Http2Server {
    const server = createHttp2({
      maxSessionMemory: SESSION_MEMORY,
      maxHeaderListPairs: 64,
      maxSettings: 16,
      settings: {
        maxConcurrentStreams: STREAMS,
        maxHeaderListSize: HEADER_BYTES,
        initialWindowSize: STREAM_WINDOW,
      },
    });
    server.on('session', (session) => {
      const socket = this.#speaking!;
      const caller = this.#callers.get(socket)!;
      const budget = new Budget(HELD.perConnection, this.#pool.of(caller));
      this.#sessions.add(session);
      session.once('close', () => this.#sessions.delete(session));
      session.on('error', () => {});
      session.setLocalWindowSize(SESSION_WINDOW);
      watchOver(session, socket, this.#options.times);
      session.on('stream', (stream, headers, _flags, rawHeaders) => {
        if (sizeOf(rawHeaders as unknown as string[]) > HEADER_BYTES) {
          stream.on('error', () => {}).close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
          return;
        }
        const type = headers['content-type'];
        if (type?.startsWith('application/grpc') && !type.startsWith('application/grpc-web')) {
          this.#grpc.serve(stream, headers, caller, budget);
          return;
        }
        stream.on('error', () => {});
        // For what is not gRPC a stream is a request as HTTP/1.1 has it.
        const request = new Http2ServerRequest(stream, headers, {}, rawHeaders as unknown as string[]);
        this.#serve(request, new Http2ServerResponse(stream), caller, budget);
      });
    });
    server.on('sessionError', () => {});
    return server;
  }

  #makeHttp1(): Http1Server {
    const server = createHttp1(
      {
        ...HTTP_CHECKS,
        headersTimeout: HEADERS_WITHIN,
        maxHeaderSize: HEADER_BYTES,
        keepAliveTimeout: 60_000,
      },
      (request, response) => {
        const caller = this.#callers.get(request.socket)!;
        this.#serve(request, response, caller, new Budget(HELD.perConnection, this.#pool.of(caller)));
      },
    );
    // A stream of requests may go on for as long as it likes.
    server.requestTimeout = 0;
    // It never listens itself; this is what makes Node watch over the time that headers take.
    server.emit('listening');
    return server;
  }

  #serve(request: Request, response: Response, caller: Caller, budget: Budget): void {
    const { condition, metrics, log, clientsRoot } = this.#options;
    const answered = this.#gateway.has(pathOf(request))
      ? this.#gateway.serve(request, response, caller, budget)
      : hasInfo(request)
        ? answerInfo(request, response, { condition, metrics, caller, clientsRoot })
        : this.#logAnswers?.has(request)
          ? this.#logAnswers.answer(request, response, caller)
          : notFound(response);
    answered.catch((error: unknown) => {
      log.warn({ err: error }, 'a request failed');
      response.destroy();
    });
  }
}

/**
 * Who is at the other end is known once, by the handshake: in a second one on the same connection (TLS 1.2) a client could show another certificate,
 * and ask for another name. Node's own bound of it is three in ten minutes.
 */
function tlsOf(options: TlsOptions): TlsOptions {
  const secureOptions = (options.secureOptions ?? 0) | constantsOfTls.SSL_OP_NO_RENEGOTIATION;
  return { ALPNProtocols: ['h2', 'http/1.1'], minVersion: 'TLSv1.2', ...options, secureOptions };
}

/** As HTTP/2 counts a list of headers (RFC 9113, section 6.5.2). A peer that sends more than it was told is not stopped by Node. */
function sizeOf(rawHeaders: readonly string[]): number {
  return rawHeaders.reduce((sum, text) => sum + text.length + 16, 0);
}

async function notFound(response: Response): Promise<void> {
  response.statusCode = constants.HTTP_STATUS_NOT_FOUND;
  response.setHeader('content-type', 'application/json');
  response.end('{"error":"Not Found","code":5,"message":"Not Found"}');
}

/** The beginning of HTTP/2's preface; no method of HTTP/1.1 is called so. */
const PRI = Buffer.from('PRI');

/** The first bytes that a connection says, at least as many as tell the protocol; undefined if it ends before. */
function firstBytes(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    const done = (result: Buffer | undefined): void => {
      clearTimeout(timer);
      socket.off('readable', read).off('close', ended).off('end', ended);
      resolve(result);
    };
    const ended = (): void => {
      socket.destroy();
      done(undefined);
    };
    const read = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk !== null) head = Buffer.concat([head, chunk]);
      if (head.length >= PRI.length) done(head);
    };
    const timer = setTimeout(ended, PROTOCOL_WITHIN);
    socket.on('readable', read).once('close', ended).once('end', ended);
    read();
  });
}
