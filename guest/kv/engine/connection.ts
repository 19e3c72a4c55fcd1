/**
 * One HTTP/2 connection (RFC 9113) to etcd over its unix socket, by hand: a general client costs more than etcd's own work on a write.
 * What makes it lean: no header is compressed with state, a request's headers are encoded once for each method, and all frames of a turn
 * of the event loop leave in one write.
 *
 * The peer is etcd and is not trusted to be well: whatever is not as the RFC wants ends the connection, and sizes are bounded.
 */
import { connect, type Socket } from 'node:net';
import { etcdError, RpcError, status } from '../../../lib/etcd/errors.ts';
import { decodeHeaders } from './hpack.ts';
import { broken, PREFIX, STREAM_WINDOW, Stream, type StreamEvents } from './stream.ts';

const frame = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PADDED = 8;
const PRIORITY = 32;
const setting = { headerTableSize: 1, enablePush: 2, initialWindow: 4, maxFrame: 5 } as const;
const CANCEL = 8;
const HEAD = 9;

const MAX_FRAME = 16_384;
const MAX_HEADERS = 64 * 1024;
const DEFAULT_WINDOW = 65_535;
const CONNECTION_WINDOW = 64 * 1024 * 1024;
const MAX_WINDOW = 2 ** 31 - 1;
/** The connection is followed by another before its stream numbers run out. */
const LAST_STREAM = 2 ** 31 - 1001;
const SLAB = 64 * 1024;

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export class Connection {
  readonly #socket: Socket;
  readonly #streams = new Map<number, Stream>();
  /** Streams whose data waits for the connection's window or their own. */
  readonly #blocked = new Set<Stream>();
  #nextId = 1;
  #window = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  #maxFrame = MAX_FRAME;
  #received = 0;
  #rest: Buffer | undefined;
  /** Headers that continue in the next frame. */
  #continued: { stream: number; flags: number; parts: Buffer[]; length: number } | undefined;
  #slab = Buffer.allocUnsafe(SLAB);
  #from = 0;
  #at = 0;
  #flushing = false;
  #ready = false;
  #ended = false;
  #leaving = false;
  readonly #handlers: Record<number, (flags: number, id: number, payload: Buffer) => void> = {
    [frame.data]: (flags, id, payload) => this.#onData(flags, id, payload),
    [frame.headers]: (flags, id, payload) => this.#onHeaders(flags, id, unpadded(flags, payload, true)),
    [frame.continuation]: (flags, _, payload) => this.#onContinuation(flags, payload),
    [frame.reset]: (_, id, payload) => this.#onReset(id, payload),
    [frame.settings]: (flags, _, payload) => this.#onSettings(flags, payload),
    [frame.ping]: (flags, _, payload) => this.#onPing(flags, payload),
    [frame.goAway]: (_flags, _id, payload) => this.#onGoAway(payload),
    [frame.windowUpdate]: (_, id, payload) => this.#onWindowUpdate(id, payload),
  };
  readonly #onReady: () => void;
  readonly #onEnd: (why: Error | undefined) => void;

  /** `onReady` once etcd has answered; `onEnd` once, when no new call can be made on it. */
  constructor(path: string, onReady: () => void, onEnd: (why: Error | undefined) => void) {
    this.#onReady = onReady;
    this.#onEnd = onEnd;
    this.#socket = connect({ path });
    this.#socket.on('data', (chunk) => this.#take(chunk));
    this.#socket.on('error', (error) => this.#close(error));
    this.#socket.on('close', () => this.#close(undefined));
    this.#put(preface);
    const settings = Buffer.alloc(18);
    settings.writeUInt16BE(setting.headerTableSize, 0);
    settings.writeUInt16BE(setting.enablePush, 6);
    settings.writeUInt16BE(setting.initialWindow, 12);
    settings.writeUInt32BE(STREAM_WINDOW, 14);
    this.#frame(frame.settings, 0, 0, settings);
    this.grant(0, CONNECTION_WINDOW - DEFAULT_WINDOW);
  }

  /** Whether a call may be made on it. */
  get usable(): boolean {
    return this.#ready && !this.#leaving && !this.#ended;
  }

  /** Calls that are under way. */
  get busy(): number {
    return this.#streams.size;
  }

  /** Opens a call. `block` is encoded by hpack.ts; of a unary call, `message` is its only one. */
  open(block: Uint8Array, message: Uint8Array | undefined, events: StreamEvents): Stream {
    const id = this.#nextId;
    this.#nextId += 2;
    const stream = new Stream(this, id, this.#initialWindow, events);
    this.#streams.set(id, stream);
    this.#frame(frame.headers, END_HEADERS, id, block);
    if (message !== undefined) this.sendMessage(stream, message, true);
    if (id >= LAST_STREAM) this.#leave(undefined);
    return stream;
  }

  sendMessage(stream: Stream, message: Uint8Array, last: boolean): void {
    if (!this.#streams.has(stream.id)) return;
    const length = PREFIX + message.length;
    if (stream.waiting.length === 0 && length <= Math.min(stream.window, this.#window, this.#maxFrame)) {
      stream.window -= length;
      this.#window -= length;
      const at = this.#head(length, frame.data, last ? END_STREAM : 0, stream.id);
      const slab = this.#slab;
      slab[at] = 0;
      slab.writeUInt32BE(message.length, at + 1);
      slab.set(message, at + PREFIX);
      return;
    }
    const framed = Buffer.allocUnsafe(length);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, PREFIX);
    stream.waiting.push(framed);
    stream.endWaits ||= last;
    this.#push(stream);
  }

  sendEnd(stream: Stream): void {
    if (!this.#streams.has(stream.id)) return;
    if (stream.waiting.length > 0) stream.endWaits = true;
    else this.#head(0, frame.data, END_STREAM, stream.id);
  }

  reset(stream: Stream): void {
    if (!this.#streams.has(stream.id)) return;
    this.#forget(stream);
    const code = Buffer.alloc(4);
    code.writeUInt32BE(CANCEL);
    this.#frame(frame.reset, 0, stream.id, code);
  }

  /** Ends a stream's life here and tells its owner. */
  finish(stream: Stream, error: RpcError | undefined, unfinished: boolean): void {
    if (!this.#streams.has(stream.id)) return;
    if (unfinished) this.reset(stream);
    else this.#forget(stream);
    stream.events.end(error);
  }

  /** Lets etcd send more: on a stream, or for 0 on all of them together. */
  grant(stream: number, bytes: number): void {
    if (stream !== 0 && !this.#streams.has(stream)) return;
    const at = this.#head(4, frame.windowUpdate, 0, stream);
    this.#slab.writeUInt32BE(bytes, at);
  }

  destroy(): void {
    this.#close(undefined);
  }

  #forget(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#blocked.delete(stream);
    if (this.#leaving && this.#streams.size === 0) this.#socket.end();
  }

  // --- Sending ---

  #frame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const at = this.#head(payload.length, type, flags, stream);
    this.#slab.set(payload, at);
  }

  /** Writes a frame's head, makes room for its payload, and says where that goes. */
  #head(length: number, type: number, flags: number, stream: number): number {
    this.#room(HEAD + length);
    const slab = this.#slab;
    const at = this.#at;
    slab[at] = length >> 16;
    slab[at + 1] = length >> 8;
    slab[at + 2] = length;
    slab[at + 3] = type;
    slab[at + 4] = flags;
    slab.writeUInt32BE(stream, at + 5);
    this.#at = at + HEAD + length;
    return at + HEAD;
  }

  #put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#slab.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** A slab is only ever written behind what was handed to the socket, so that nothing of it changes under a write. */
  #room(length: number): void {
    if (this.#at + length > this.#slab.length) {
      this.#flush();
      this.#slab = Buffer.allocUnsafe(Math.max(SLAB, length));
      this.#from = 0;
      this.#at = 0;
    }
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#at === this.#from || this.#ended) return;
    this.#socket.write(this.#slab.subarray(this.#from, this.#at));
    this.#from = this.#at;
  }

  /** Sends of a stream's waiting data what the windows allow. */
  #push(stream: Stream): void {
    while (stream.waiting.length > 0) {
      const allowed = Math.min(stream.window, this.#window, this.#maxFrame);
      if (allowed <= 0) {
        this.#blocked.add(stream);
        return;
      }
      const next = stream.waiting[0]!;
      const part = next.subarray(0, allowed);
      if (part.length === next.length) stream.waiting.shift();
      else stream.waiting[0] = next.subarray(allowed);
      stream.window -= part.length;
      this.#window -= part.length;
      const last = stream.endWaits && stream.waiting.length === 0;
      this.#frame(frame.data, last ? END_STREAM : 0, stream.id, part);
    }
    this.#blocked.delete(stream);
  }

  #pushAll(): void {
    for (const stream of [...this.#blocked]) this.#push(stream);
  }

  // --- Receiving ---

  #take(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    let at = 0;
    try {
      while (!this.#ended && bytes.length - at >= HEAD) {
        const length = bytes.readUIntBE(at, 3);
        if (length > MAX_FRAME) throw broken(`a frame of ${length} bytes`);
        const end = at + HEAD + length;
        if (bytes.length < end) break;
        this.#received += length;
        this.#handle(
          bytes[at + 3]!,
          bytes[at + 4]!,
          bytes.readUInt32BE(at + 5) & 0x7fffffff,
          bytes.subarray(at + HEAD, end),
        );
        at = end;
      }
    } catch (error) {
      this.#close(error as Error);
      return;
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at);
    if (this.#received > CONNECTION_WINDOW / 2) {
      this.grant(0, this.#received);
      this.#received = 0;
    }
  }

  #handle(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#continued !== undefined && (type !== frame.continuation || id !== this.#continued.stream))
      throw broken('a frame between headers');
    // Frames of other kinds are to be ignored (section 4.1).
    this.#handlers[type]?.(flags, id, payload);
  }

  #onData(flags: number, id: number, payload: Buffer): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.take(unpadded(flags, payload, false), payload.length);
    if ((flags & END_STREAM) !== 0)
      this.finish(stream, new RpcError(status.internal, 'etcd ended a call without a status'), false);
  }

  #onHeaders(flags: number, id: number, block: Buffer): void {
    if ((flags & END_HEADERS) === 0) {
      this.#continued = { stream: id, flags, parts: [block], length: block.length };
      return;
    }
    this.#streams.get(id)?.headers(decodeHeaders(block), (flags & END_STREAM) !== 0);
  }

  #onContinuation(flags: number, payload: Buffer): void {
    const begun = this.#continued;
    if (begun === undefined) throw broken('a continuation of nothing');
    begun.parts.push(payload);
    begun.length += payload.length;
    if (begun.length > MAX_HEADERS) throw broken('headers without end');
    if ((flags & END_HEADERS) === 0) return;
    this.#continued = undefined;
    this.#onHeaders(begun.flags | END_HEADERS, begun.stream, Buffer.concat(begun.parts));
  }

  #onReset(id: number, payload: Buffer): void {
    const stream = this.#streams.get(id);
    if (stream !== undefined) this.finish(stream, resetError(payload.readUInt32BE(0)), false);
  }

  #onSettings(flags: number, payload: Buffer): void {
    if ((flags & ACK) !== 0) return;
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case setting.initialWindow:
          for (const stream of this.#streams.values()) stream.window += value - this.#initialWindow;
          this.#initialWindow = value;
          break;
        case setting.maxFrame:
          // Larger frames would gain nothing.
          this.#maxFrame = Math.min(value, MAX_FRAME);
          break;
      }
    }
    this.#frame(frame.settings, ACK, 0, Buffer.alloc(0));
    this.#pushAll();
    if (!this.#ready) {
      this.#ready = true;
      this.#onReady();
    }
  }

  #onPing(flags: number, payload: Buffer): void {
    if ((flags & ACK) === 0) this.#frame(frame.ping, ACK, 0, payload);
  }

  #onWindowUpdate(id: number, payload: Buffer): void {
    const bytes = payload.readUInt32BE(0) & 0x7fffffff;
    if (id === 0) {
      this.#window += bytes;
      if (this.#window > MAX_WINDOW) throw broken('a window without end');
      this.#pushAll();
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.window += bytes;
    if (stream.window > MAX_WINDOW) throw broken('a window without end');
    if (this.#blocked.has(stream)) this.#push(stream);
  }

  /** Calls that etcd has begun on go on; it will not begin on the others. */
  #onGoAway(payload: Buffer): void {
    const last = payload.readUInt32BE(0) & 0x7fffffff;
    this.#leave(undefined);
    for (const stream of [...this.#streams.values()])
      if (stream.id > last) this.finish(stream, etcdError('stopped'), false);
  }

  #leave(why: Error | undefined): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#onEnd(why);
    if (this.#streams.size === 0) this.#socket.end();
  }

  #close(why: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.destroy();
    this.#leave(why);
    const lost = etcdError('connectionLost', why);
    for (const stream of [...this.#streams.values()]) {
      this.#streams.delete(stream.id);
      stream.events.end(lost);
    }
    this.#blocked.clear();
  }
}

/** A payload without padding and priority (sections 6.1, 6.2). */
function unpadded(flags: number, payload: Buffer, mayHavePriority: boolean): Buffer {
  const padded = (flags & PADDED) !== 0;
  const start = (padded ? 1 : 0) + (mayHavePriority && (flags & PRIORITY) !== 0 ? 5 : 0);
  const end = payload.length - (padded ? (payload[0] ?? 0) : 0);
  if (start > end) throw broken('padding longer than its frame');
  return start === 0 && end === payload.length ? payload : payload.subarray(start, end);
}

const REFUSED_STREAM = 7;
const ENHANCE_YOUR_CALM = 11;

/** gRPC's reading of HTTP/2 error codes. */
function resetError(code: number): RpcError {
  if (code === CANCEL) return new RpcError(status.cancelled, 'etcd cancelled the call');
  if (code === REFUSED_STREAM) return new RpcError(status.unavailable, 'etcd refused the call');
  if (code === ENHANCE_YOUR_CALM) return new RpcError(status.resourceExhausted, 'etcd is overloaded');
  return new RpcError(status.internal, `etcd reset the call with code ${code}`);
}
