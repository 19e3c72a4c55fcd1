/** One call on a connection: what etcd sends is put together to messages, as far as its reader keeps up. */
import { RpcError, status, statusOf } from '../../../lib/etcd/errors.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Headers } from './hpack.ts';

/** What a call's owner hears. */
export interface StreamEvents {
  /** A whole message. It may be a view of a larger buffer: copy what is kept for long. */
  message(bytes: Uint8Array): void;
  /** Once, and nothing after it; undefined for a clean end. */
  end(error: RpcError | undefined): void;
}

/** Largest message that is taken from etcd; a larger range has to be asked for in parts. */
export const MAX_ANSWER = 64 * 1024 * 1024;

/** Before each message of gRPC: whether it is compressed, and its length. */
export const PREFIX = 5;

/** How much etcd may send on a stream ahead of who reads it. */
export const STREAM_WINDOW = 256 * 1024;

export function broken(what: string): DstackError {
  return new DstackError('HTTP2_INVALID', `etcd broke HTTP/2: ${what}`);
}

/** What a stream needs of its connection. */
interface StreamOwner {
  sendMessage(stream: Stream, message: Uint8Array, last: boolean): void;
  sendEnd(stream: Stream): void;
  reset(stream: Stream): void;
  finish(stream: Stream, error: RpcError | undefined, unfinished: boolean): void;
  grant(stream: number, bytes: number): void;
}

/** One call on the connection. */
export class Stream {
  readonly id: number;
  readonly events: StreamEvents;
  readonly #connection: StreamOwner;
  /** Bytes that may still be sent. */
  window: number;
  /** What waits for the window. */
  readonly waiting: Buffer[] = [];
  endWaits = false;
  #paused = false;
  /** Received and not granted again. */
  #owed = 0;
  /** Parts of a message that is not complete. */
  #parts: Uint8Array[] = [];
  #partsLength = 0;
  #answered = false;

  constructor(connection: StreamOwner, id: number, window: number, events: StreamEvents) {
    this.#connection = connection;
    this.id = id;
    this.window = window;
    this.events = events;
  }

  send(message: Uint8Array): void {
    this.#connection.sendMessage(this, message, false);
  }

  end(): void {
    this.#connection.sendEnd(this);
  }

  /** Nothing is heard of it any more. */
  close(): void {
    this.#connection.reset(this);
  }

  /** Its reader is behind: etcd may send what the window has left, and no more. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#grant();
  }

  /** Takes a DATA frame's contents, of `flow` bytes with the padding. */
  take(data: Uint8Array, flow: number): void {
    this.#owed += flow;
    if (this.#owed > STREAM_WINDOW * 2) throw broken('more data than its window has');
    let rest = this.#parts.length === 0 ? data : this.#joined(data);
    while (rest !== undefined && rest.length >= PREFIX) {
      if (rest[0] !== 0) throw broken('a compressed message');
      const length = rest[1]! * 2 ** 24 + rest[2]! * 2 ** 16 + rest[3]! * 2 ** 8 + rest[4]!;
      if (length > MAX_ANSWER) {
        this.#connection.finish(
          this,
          new RpcError(status.resourceExhausted, `an answer of ${length} bytes is too large; ask for less`),
          true,
        );
        return;
      }
      if (rest.length < PREFIX + length) break;
      const message = rest.subarray(PREFIX, PREFIX + length);
      rest = rest.subarray(PREFIX + length);
      // Not as a Buffer, whose `slice` is a view.
      this.events.message(new Uint8Array(message.buffer, message.byteOffset, message.length));
    }
    if (rest !== undefined && rest.length > 0) this.#keep(rest);
    if (!this.#paused) this.#grant();
  }

  /** Takes headers or trailers. */
  headers(headers: Headers, last: boolean): void {
    if (!this.#answered) {
      this.#answered = true;
      const code = headers.get(':status');
      if (code !== '200') throw broken(`HTTP status ${code}`);
    }
    if (last) this.#connection.finish(this, endOf(headers, this.#partsLength > 0), false);
  }

  #grant(): void {
    if (this.#owed < STREAM_WINDOW / 2) return;
    this.#connection.grant(this.id, this.#owed);
    this.#owed = 0;
  }

  #keep(rest: Uint8Array): void {
    this.#parts.push(rest);
    this.#partsLength += rest.length;
  }

  /** The kept parts with `data` after them once that makes a message, else undefined and `data` is kept. */
  #joined(data: Uint8Array): Uint8Array | undefined {
    this.#keep(data);
    const first = this.#parts[0]!;
    const head = first.length >= PREFIX ? first : Buffer.concat(this.#parts);
    if (head !== first) this.#parts = [head];
    if (head.length < PREFIX) return undefined;
    const wanted = PREFIX + Buffer.from(head.buffer, head.byteOffset, PREFIX).readUInt32BE(1);
    if (this.#partsLength < wanted) return undefined;
    const whole = this.#parts.length === 1 ? head : Buffer.concat(this.#parts, this.#partsLength);
    this.#parts = [];
    this.#partsLength = 0;
    return whole;
  }
}

/** How a call ended by its trailers. */
function endOf(trailers: Headers, cutOff: boolean): RpcError | undefined {
  const code = trailers.get('grpc-status');
  if (code === undefined) return new RpcError(status.internal, 'etcd ended a call without a status');
  if (code === '0')
    return cutOff ? new RpcError(status.internal, 'etcd ended a call within a message') : undefined;
  return new RpcError(statusOf(Number(code)), percentDecoded(trailers.get('grpc-message') ?? ''));
}

/** gRPC's encoding of messages in trailers; what is not encoded right stays as it is. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
