/**
 * etcd's API over its unix socket: typed calls, and a connection that comes back by itself. A call that was under way when the
 * connection went is not repeated: nobody knows whether it took place.
 *
 * There is another client, lib/etcd/client.ts, for few calls to the members of a cluster, over TLS. This one does not stand on it: it is in
 * the way of every read and write of the store, and node:http2 costs more there than etcd's own work (connection.ts).
 */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { cancelled, etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import type { Upstream, UpstreamOptions, UpstreamStream } from '../types.ts';
import { Connection } from './connection.ts';
import { encodeHeaders } from './hpack.ts';
import type { Stream } from './stream.ts';

const RECONNECT_MS = { first: 20, most: 1000 };
/** How long a call waits for a connection before it says that etcd is away. */
const CONNECT_WAIT_MS = 5000;

export interface EtcdClientOptions {
  /** Told when a connection is there or gone. */
  readonly onState?: (connected: boolean, why: Error | undefined) => void;
}

export class EtcdClient implements Upstream {
  readonly #path: string;
  readonly #onState: (connected: boolean, why: Error | undefined) => void;
  #state: boolean | undefined;
  readonly #blocks = new Map<DescMethod, Buffer>();
  readonly #waiters = new Set<(connection: Connection | undefined) => void>();
  #connection: Connection | undefined;
  #pause = RECONNECT_MS.first;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(socketPath: string, options: EtcdClientOptions = {}) {
    this.#path = socketPath;
    this.#onState = options.onState ?? (() => {});
    this.#connect();
  }

  get connected(): boolean {
    return this.#connection?.usable === true;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: UpstreamOptions = {},
  ): Promise<MessageShape<O>> {
    const { signal, deadline } = options;
    if (signal?.aborted) throw cancelled();
    const body = toBinary(method.input, create(method.input, request));
    const connection = this.#usable() ?? (await this.#connected(signal, deadline));
    return new Promise((resolve, reject) => {
      let answer: MessageShape<O> | undefined;
      const stream = connection.open(this.#block(method), body, {
        message(bytes) {
          answer = fromBinary(method.output, bytes);
        },
        end(error) {
          stopWaiting?.();
          if (error !== undefined) reject(error);
          else if (answer === undefined) reject(new RpcError(status.internal, 'etcd answered nothing'));
          else resolve(answer);
        },
      });
      const stopWaiting = until(signal, deadline, (error) => {
        stream.close();
        reject(error);
      });
    });
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>,
    options: UpstreamOptions = {},
  ): UpstreamStream<I, O> {
    const call = new StreamCall(method, options);
    const connection = this.#usable();
    if (connection !== undefined) call.start(connection, this.#block(method));
    else
      this.#connected(options.signal, options.deadline).then(
        (late) => call.start(late, this.#block(method)),
        (error) => call.fail(error),
      );
    return call;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#connection?.destroy();
    for (const waiter of this.#waiters) waiter(undefined);
  }

  #usable(): Connection | undefined {
    const connection = this.#connection;
    return connection?.usable ? connection : undefined;
  }

  #block(method: DescMethod): Buffer {
    const known = this.#blocks.get(method);
    if (known !== undefined) return known;
    const block = encodeHeaders([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', `/${method.parent.typeName}/${method.name}`],
      [':authority', 'etcd'],
      ['content-type', 'application/grpc'],
      ['te', 'trailers'],
    ]);
    this.#blocks.set(method, block);
    return block;
  }

  #connect(): void {
    const connection = new Connection(
      this.#path,
      () => {
        this.#pause = RECONNECT_MS.first;
        this.#tell(true, undefined);
        for (const waiter of this.#waiters) waiter(connection);
      },
      (why) => {
        this.#connection = undefined;
        if (this.#closed) return;
        this.#tell(false, why);
        this.#timer = setTimeout(() => this.#connect(), this.#pause);
        this.#pause = Math.min(this.#pause * 2, RECONNECT_MS.most);
      },
    );
    this.#connection = connection;
  }

  /** Tells of a change. */
  #tell(connected: boolean, why: Error | undefined): void {
    if (this.#state === connected) return;
    this.#state = connected;
    this.#onState(connected, why);
  }

  /** @throws RpcError unavailable when there is none in time. */
  #connected(signal: AbortSignal | undefined, deadline: number | undefined): Promise<Connection> {
    if (this.#closed) return Promise.reject(etcdError('stopped'));
    return new Promise((resolve, reject) => {
      const done = (result: Connection | RpcError): void => {
        this.#waiters.delete(waiter);
        clearTimeout(timer);
        stopWaiting?.();
        if (result instanceof RpcError) reject(result);
        else resolve(result);
      };
      const waiter = (connection: Connection | undefined): void => done(connection ?? etcdError('stopped'));
      const timer = setTimeout(() => done(etcdError('noLeader')), CONNECT_WAIT_MS);
      const stopWaiting = until(signal, deadline, done);
      this.#waiters.add(waiter);
    });
  }
}

/** Calls `giveUp` when the signal aborts or the deadline passes; what it returns stops that. */
function until(
  signal: AbortSignal | undefined,
  deadline: number | undefined,
  giveUp: (error: RpcError) => void,
): (() => void) | undefined {
  if (signal === undefined && deadline === undefined) return undefined;
  const aborted = (): void => giveUp(cancelled());
  signal?.addEventListener('abort', aborted, { once: true });
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(
          () => giveUp(new RpcError(status.deadlineExceeded, 'context deadline exceeded')),
          Math.max(0, deadline - performance.now()),
        );
  return () => {
    signal?.removeEventListener('abort', aborted);
    clearTimeout(timer);
  };
}

class StreamCall<I extends DescMessage, O extends DescMessage> implements UpstreamStream<I, O> {
  readonly #method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>;
  readonly #stopWaiting: (() => void) | undefined;
  #stream: Stream | undefined;
  /** Sent before the connection was there. */
  readonly #early: Uint8Array[] = [];
  #endEarly = false;
  readonly #queue: MessageShape<O>[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: RpcError | undefined;

  constructor(
    method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>,
    options: UpstreamOptions,
  ) {
    this.#method = method;
    if (options.signal?.aborted) this.fail(cancelled());
    this.#stopWaiting = until(options.signal, options.deadline, (error) => {
      this.#stream?.close();
      this.fail(error);
    });
  }

  start(connection: Connection, block: Buffer): void {
    if (this.#ended) return;
    this.#stream = connection.open(block, undefined, {
      message: (bytes) => {
        this.#queue.push(fromBinary(this.#method.output, bytes));
        this.#stream?.pause();
        this.#wakeUp();
      },
      end: (error) => this.#end(error),
    });
    for (const message of this.#early) this.#stream.send(message);
    if (this.#endEarly) this.#stream.end();
  }

  fail(error: RpcError): void {
    this.#end(error);
  }

  send(request: MessageInitShape<I>): void {
    if (this.#ended) throw this.#error ?? cancelled();
    const body = toBinary(this.#method.input, create(this.#method.input, request));
    if (this.#stream === undefined) this.#early.push(body);
    else this.#stream.send(body);
  }

  end(): void {
    if (this.#stream === undefined) this.#endEarly = true;
    else this.#stream.end();
  }

  close(): void {
    this.#stream?.close();
    this.#end(undefined);
    this.#queue.length = 0;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<MessageShape<O>> {
    try {
      while (true) {
        const next = this.#queue.shift();
        if (next !== undefined) {
          yield next;
          continue;
        }
        if (this.#error !== undefined) throw this.#error;
        if (this.#ended) return;
        this.#stream?.resume();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.close();
    }
  }

  #end(error: RpcError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#stopWaiting?.();
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
