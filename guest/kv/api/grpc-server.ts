/** gRPC over node:http2: one stream of a session is one call of one method. What is served is a list; nothing else is answered. */

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { Log } from '../../../lib/daemon/log.ts';
import { etcdError, RpcError, type Status, status } from '../../../lib/etcd/errors.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import type { Caller, ServedMethod } from '../types.ts';
import type { Budget } from './budget.ts';
import { ClientCall, timeoutOf } from './call.ts';
import { framed, MessageReader, parse } from './framing.ts';
import { inTime } from './in-time.ts';
import type { Metrics } from './metrics.ts';
import type { Unsent } from './unsent.ts';

/** How long a client may go on with a call that has been answered. Milliseconds. */
const LINGER = 1000;

const ANSWER = { ':status': 200, 'content-type': 'application/grpc' } as const;

/** The refusal of a call for any thrown value: what is not for clients to know stays in the log. */
export function refusalOf(error: unknown, log: Log<'warn'>, what: string): RpcError {
  if (error instanceof RpcError) return error;
  if (codeOf(error) === 'LEDGER_STOPPED') return etcdError('stopped', error);
  log.warn({ err: error, method: what }, 'a call failed');
  return new RpcError(status.internal, 'etcdserver: internal error');
}

/** In the encoding of gRPC's trailers: printable ASCII but for the percent sign. */
function percentEncoded(text: string): string {
  return encodeURIComponent(text).replace(/%([2-7][0-9A-F])/g, (code, hex) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return character === '%' || character === '\x7f' ? code : character;
  });
}

/** etcd's methods that nobody has here. Without a reason, who runs etcdctl takes the store for one of another version. */
const NOBODYS: ReadonlySet<string> = new Set([
  '/etcdserverpb.Cluster/MemberAdd',
  '/etcdserverpb.Cluster/MemberRemove',
  '/etcdserverpb.Cluster/MemberUpdate',
  '/etcdserverpb.Cluster/MemberPromote',
  '/etcdserverpb.Maintenance/MoveLeader',
  '/etcdserverpb.Maintenance/Downgrade',
]);

function notServed(path: string): RpcError {
  const why = NOBODYS.has(path) ? ': members, the leader and the version are not changed from here' : '';
  return new RpcError(status.unimplemented, `unknown method ${path}${why}`);
}

/** What all calls have in common. */
export interface Serving {
  readonly metrics: Metrics;
  readonly log: Log<'warn'>;
  readonly unsent: Unsent;
  /** How long a message may take to arrive. Milliseconds. */
  readonly messageWithin: number;
}

type Sharing = Pick<Serving, 'unsent' | 'messageWithin'> & { readonly budget: Budget };

export class GrpcServer {
  readonly #methods: ReadonlyMap<string, ServedMethod>;
  readonly #serving: Serving;

  constructor(methods: readonly ServedMethod[], serving: Serving) {
    this.#methods = new Map(methods.map((served) => [pathOf(served), served]));
    this.#serving = serving;
  }

  /** Answers one stream whose content type is gRPC's. */
  serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, caller: Caller, budget: Budget): void {
    // Sessions end under calls; what matters of it is the close that follows.
    stream.on('error', () => {});
    const path = headers[':path'] as string;
    const exchange = new Exchange(stream, (code) => this.#serving.metrics.handled(path, code));
    try {
      const served = this.#methods.get(path);
      if (headers[':method'] !== 'POST' || served === undefined) throw notServed(path);
      const encoding = headers['grpc-encoding'];
      if (encoding !== undefined && encoding !== 'identity')
        throw new RpcError(
          status.unimplemented,
          `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`,
        );
      const token = headers.token ?? headers.authorization;
      const call = new ClientCall(
        caller,
        typeof token === 'string' ? token : undefined,
        timeoutOf(headers['grpc-timeout']),
        (error) => exchange.refuse(error),
      );
      const end = (error: unknown): void => {
        exchange.refuse(refusalOf(error, this.#serving.log, path));
        call.abort();
      };
      if (served.kind === 'unary') serveUnary(exchange, served, call, { ...this.#serving, budget }, end);
      else serveStream(exchange, served, call, { ...this.#serving, budget }, end);
    } catch (error) {
      exchange.refuse(refusalOf(error, this.#serving.log, path));
    }
  }
}

function pathOf({ method }: ServedMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The answering half of a call, which ends once. */
class Exchange {
  readonly stream: ServerHttp2Stream;
  readonly #onEnd: (code: Status) => void;
  #begun = false;
  ended = false;

  constructor(stream: ServerHttp2Stream, onEnd: (code: Status) => void) {
    this.stream = stream;
    this.#onEnd = onEnd;
  }

  /** Sends one message; resolves when there is room for more. */
  async send(frame: Buffer): Promise<void> {
    if (this.ended || this.#isGone) throw gone();
    this.begin();
    if (this.stream.write(frame)) return;
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        this.stream.off('drain', done).off('close', done);
        if (this.#isGone) reject(gone());
        else resolve();
      };
      this.stream.once('drain', done).once('close', done);
    });
  }

  /** The headers of a stream's answer go out before its first message: clients wait for them. */
  begin(): void {
    if (this.#begun || this.#isGone) return;
    this.#begun = true;
    this.stream.respond(ANSWER, { waitForTrailers: true });
  }

  /** Its session may have ended under it: answering then throws. */
  get #isGone(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  succeed(frame?: Buffer): void {
    if (!this.#end(status.ok)) return;
    this.begin();
    this.stream.once('wantTrailers', () => this.stream.sendTrailers({ 'grpc-status': '0' }));
    this.stream.end(frame);
  }

  refuse(error: RpcError): void {
    if (!this.#end(error.status)) return;
    const trailers = { 'grpc-status': String(error.status), 'grpc-message': percentEncoded(error.message) };
    // What it does not take stands before the trailers.
    if (this.stream.writableNeedDrain) this.#forget();
    if (this.#begun) {
      this.stream.once('wantTrailers', () => this.stream.sendTrailers(trailers));
      this.stream.end();
    } else {
      this.#begun = true;
      this.stream.respond({ ...ANSWER, ...trailers }, { endStream: true });
    }
  }

  /** The stream is closed: if the call has not ended, its client has gone. */
  left(call: ClientCall): void {
    if (this.ended) return;
    this.#end(status.cancelled);
    call.abort();
  }

  /** Whether it is this that ends it. A client that has not ended its half is told to forget it. */
  #end(code: Status): boolean {
    if (this.ended) return false;
    this.ended = true;
    this.#onEnd(code);
    if (this.#isGone) return false;
    if (!this.stream.readableEnded) this.#forget();
    return true;
  }

  /** Not at once: the reset would overtake the trailers. */
  #forget(): void {
    this.stream.resume();
    const timer = setTimeout(() => this.stream.close(constants.NGHTTP2_NO_ERROR), LINGER);
    this.stream.once('close', () => clearTimeout(timer));
  }
}

function gone(): RpcError {
  return new RpcError(status.cancelled, 'context canceled');
}

function serveUnary(
  exchange: Exchange,
  { method, handle }: ServedMethod & { kind: 'unary' },
  call: ClientCall,
  { budget, unsent, messageWithin }: Sharing,
  fail: (error: unknown) => void,
): void {
  const { stream } = exchange;
  const reader = new MessageReader(budget);
  const late = setTimeout(
    () => fail(new RpcError(status.deadlineExceeded, 'no message came')),
    messageWithin,
  );
  let begun = false;
  const run = (bytes: Buffer): void => {
    begun = true;
    clearTimeout(late);
    handle(parse(method.input, bytes), call)
      .then((answer) => {
        // Before anything is sent: a call that has ended has nothing to abort.
        call.end();
        const frame = framed(method.output, answer);
        if (!stream.destroyed && !stream.closed) unsent.hold(call.caller, frame.length, stream);
        exchange.succeed(frame);
      })
      .catch(fail);
  };
  stream.on('data', (chunk: Buffer) => {
    if (exchange.ended) return;
    try {
      reader.push(chunk);
      const message = reader.next();
      if (message === undefined) return;
      if (begun || !reader.empty) throw new RpcError(status.internal, 'grpc: more than one message');
      run(message);
    } catch (error) {
      fail(error);
    }
  });
  stream.on('end', () => {
    if (!begun) fail(new RpcError(status.internal, 'grpc: no message came'));
  });
  stream.on('close', () => {
    clearTimeout(late);
    reader.drop();
    exchange.left(call);
  });
}

function serveStream(
  exchange: Exchange,
  { method, handle }: ServedMethod & { kind: 'stream' },
  call: ClientCall,
  { budget, unsent, messageWithin }: Sharing,
  fail: (error: unknown) => void,
): void {
  const { stream } = exchange;
  const send = (answer: MessageInitShape<DescMessage>): Promise<void> => {
    const frame = framed(method.output, answer);
    return unsent.during(call.caller, frame.length, () => exchange.send(frame));
  };
  stream.on('close', () => exchange.left(call));
  exchange.begin();
  handle(requests(stream, method.input, budget, messageWithin), send, call).then(() => {
    call.end();
    exchange.succeed();
  }, fail);
}

async function* requests(
  stream: ServerHttp2Stream,
  schema: DescMessage,
  budget: Budget,
  within: number,
): AsyncGenerator<MessageShape<DescMessage>> {
  const reader = new MessageReader(budget);
  try {
    for await (const chunk of inTime(stream, () => reader.since, within)) {
      reader.push(chunk);
      for (let message = reader.next(); message !== undefined; message = reader.next())
        yield parse(schema, message);
      reader.release();
    }
    if (!reader.empty) throw new RpcError(status.internal, 'grpc: a message was cut off');
  } finally {
    reader.drop();
  }
}
