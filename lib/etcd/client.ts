/**
 * A client of etcd's API: gRPC's unary calls (github.com/grpc/grpc, PROTOCOL-HTTP2.md) over node:http2, to one of several members at a
 * time.
 *
 * There is another one, guest/kv/engine, which the store stands on: one etcd on a unix socket that only it uses, thousands of calls at a
 * time, and streams that are followed, so its HTTP/2 is by hand. Here it is a few calls a second, to members that may be gone, over TLS:
 * that needs node:http2's TLS and sessions, and none of the speed. On the same engine this would be a second HTTP/2 with TLS by hand.
 *
 * A call is made once. One that failed may have taken place, unless etcd itself refused it: whoever writes has to read again.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2';
import { connect as connectSocket } from 'node:net';
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { DstackError } from '../protocol/errors.ts';
import { RpcError, status, statusOf } from './errors.ts';

/** What is asked is small, and so are the answers. */
const MAX_ANSWER = 4 * 1024 * 1024;
/** Of what a member says of a call that failed, in characters. */
const MAX_TEXT = 1_000;
/** A member that does not answer in that time is left for the next one. Milliseconds; a leader's election takes one second. */
const ATTEMPT_MS = 900;
/** The same for the only one: to leave it would cost a connection, and lead back to it. */
const ONLY_ATTEMPT_MS = 2_500;

export interface EtcdAccess {
  /** `unix:///path`, `http://host:port` or `https://host:port`. */
  readonly endpoints: readonly string[];
  /** PEM. */
  readonly tls?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
}

/** @throws ETCD_ENDPOINT */
export function requireEndpoint(endpoint: string): void {
  if (/^unix:\/\/\/[^/\s]/.test(endpoint)) return;
  if (/^https?:\/\/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}\/?$/.test(endpoint) && URL.canParse(endpoint))
    return;
  throw new DstackError(
    'ETCD_ENDPOINT',
    `${endpoint} is not unix:///path, http://host:port or https://host:port`,
  );
}

interface Method<I extends DescMessage, O extends DescMessage> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

export class EtcdClient {
  readonly #access: EtcdAccess;
  #at = 0;
  #session: ClientHttp2Session | undefined;
  #closed = false;

  /** Connects when it is first needed. @throws ETCD_ENDPOINT */
  constructor(access: EtcdAccess) {
    if (access.endpoints.length === 0)
      throw new DstackError('ETCD_ENDPOINT', 'no endpoint of the store is named');
    for (const endpoint of access.endpoints) requireEndpoint(endpoint);
    this.#access = access;
  }

  get endpoints(): readonly string[] {
    return this.#access.endpoints;
  }

  /**
   * One call, or of a stream of answers the first one.
   * @throws RpcError with etcd's own text; `unavailable` and `deadlineExceeded` say nothing about whether it took place
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O> | DescMethodBiDiStreaming<I, O>,
    request: MessageInitShape<I>,
    signal?: AbortSignal,
  ): Promise<MessageShape<O>> {
    const { parent, name, input, output }: Method<I, O> = method;
    const session = this.#connected();
    try {
      const message = toBinary(input, create(input, request) as MessageShape<I>);
      const once = method.methodKind !== 'unary';
      const answer = await exchange(session, `/${parent.typeName}/${name}`, message, {
        once,
        signal,
        within: this.#access.endpoints.length > 1 ? ATTEMPT_MS : ONLY_ATTEMPT_MS,
      });
      return decoded(output, answer);
    } catch (error) {
      if (isAway(error) && this.#session === session) this.#leave(session);
      throw error;
    }
  }

  close(): void {
    this.#closed = true;
    this.#session?.destroy();
  }

  /** The next call goes to the next member. */
  #leave(session: ClientHttp2Session): void {
    session.destroy();
    this.#session = undefined;
    this.#at = (this.#at + 1) % this.#access.endpoints.length;
  }

  #connected(): ClientHttp2Session {
    if (this.#closed) throw new RpcError(status.cancelled, 'the client is closed');
    if (this.#session !== undefined && !this.#session.destroyed && !this.#session.closed)
      return this.#session;
    const session = open(this.#access.endpoints[this.#at]!, this.#access.tls);
    // Each call in flight ends with its own error.
    session.on('error', () => {});
    session.once('goaway', () => session.close());
    this.#session = session;
    return session;
  }
}

function open(endpoint: string, tls: EtcdAccess['tls']): ClientHttp2Session {
  if (endpoint.startsWith('unix://')) {
    return connect('http://localhost', {
      createConnection: () => connectSocket(endpoint.slice('unix://'.length)),
    });
  }
  const options: SecureClientSessionOptions = {};
  if (tls !== undefined) {
    options.ca = tls.ca;
    if (tls.certificate !== undefined) options.cert = tls.certificate;
    if (tls.key !== undefined) options.key = tls.key;
  }
  return connect(endpoint, options);
}

/** Whether a call failed because of the member that was asked, and the next one may answer. */
export function isAway(error: unknown): boolean {
  return (
    error instanceof RpcError &&
    (error.status === status.unavailable || error.status === status.deadlineExceeded)
  );
}

interface Patience {
  /** One answer of a stream is enough. */
  readonly once: boolean;
  readonly signal: AbortSignal | undefined;
  /** Milliseconds. */
  readonly within: number;
}

function exchange(
  session: ClientHttp2Session,
  path: string,
  message: Uint8Array,
  { once, signal, within }: Patience,
): Promise<Uint8Array> {
  if (signal?.aborted)
    return Promise.reject(new RpcError(status.cancelled, 'the time for an answer is over'));
  return new Promise((resolve, reject) => {
    const stream: ClientHttp2Stream = session.request(
      { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
      { endStream: false },
    );
    const chunks: Buffer[] = [];
    let size = 0;
    let trailers: IncomingHttpHeaders = {};
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
      act();
    };
    const fail = (code: (typeof status)[keyof typeof status], text: string, cause?: unknown) =>
      finish(() => reject(new RpcError(code, text, cause)));
    const timer = setTimeout(() => fail(status.deadlineExceeded, 'the store does not answer'), within);
    const cancel = (): void => fail(status.cancelled, 'the time for an answer is over');
    signal?.addEventListener('abort', cancel, { once: true });
    stream.on('response', (headers) => {
      trailers = headers;
    });
    stream.on('trailers', (headers) => {
      trailers = headers;
    });
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MAX_ANSWER) return fail(status.resourceExhausted, 'the answer of the store is too large');
      if (once && isWhole(chunks, size)) finish(() => resolve(unframed(chunks)));
    });
    stream.on('error', (cause) => fail(status.unavailable, 'the store cannot be reached', cause));
    stream.on('end', () => {
      const code = trailers['grpc-status'];
      if (code === undefined) return fail(status.unavailable, 'the store ended the call without an answer');
      const text = messageOf(trailers);
      if (code !== '0') return fail(statusOf(Number(code)), text);
      if (!isWhole(chunks, size)) return fail(status.internal, 'the answer of the store is not one message');
      finish(() => resolve(unframed(chunks)));
    });
    stream.on('close', () => fail(status.unavailable, 'the connection to the store ended'));
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, 5);
    if (once) stream.write(frame);
    else stream.end(frame);
  });
}

/** A member may say anything there. */
function messageOf(trailers: IncomingHttpHeaders): string {
  const text = String(trailers['grpc-message'] ?? '').slice(0, MAX_TEXT);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function decoded<O extends DescMessage>(output: O, answer: Uint8Array): MessageShape<O> {
  try {
    return fromBinary(output, answer);
  } catch (cause) {
    throw new RpcError(status.internal, 'the answer of the store is not what was asked for', cause);
  }
}

/** Whether all of one message is there: a byte for compression, which is never asked for, and its length before it. */
function isWhole(chunks: readonly Buffer[], size: number): boolean {
  if (size < 5) return false;
  const head = Buffer.concat(chunks.slice(0, 5));
  return head.length >= 5 && head[0] === 0 && size === 5 + head.readUInt32BE(1);
}

function unframed(chunks: readonly Buffer[]): Uint8Array {
  return new Uint8Array(Buffer.concat(chunks).subarray(5));
}
