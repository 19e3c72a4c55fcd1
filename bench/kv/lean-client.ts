/**
 * A gRPC client for load: HTTP/2 by hand over one socket, one call at a time, so that it costs less than what it measures. It reads no
 * header: a call succeeded when a message came. For servers of this repository and etcd's only.
 */
import { connect, type Socket } from 'node:net';

const HEAD = 9;
const PREFIX = 5;
const WINDOW = 2 ** 30;
const frame = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, windowUpdate: 8 } as const;
const END_STREAM = 1;
const END_HEADERS = 4;
const ACK = 1;

/** What a call hears: each message, and its end. */
export interface Listener {
  message(bytes: Buffer): void;
  end(): void;
}

export class LeanClient {
  readonly #socket: Socket;
  readonly #listeners = new Map<number, Listener>();
  readonly #parts = new Map<number, Buffer>();
  #next = 1;
  #rest: Buffer | undefined;
  #received = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('close', () => {
      for (const listener of this.#listeners.values()) listener.end();
    });
    const settings = Buffer.alloc(12);
    // No table of headers, so that nothing has to be remembered of them; a large window for each stream.
    settings.writeUInt16BE(1, 0);
    settings.writeUInt16BE(4, 6);
    settings.writeUInt32BE(WINDOW, 8);
    socket.write(
      Buffer.concat([
        Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
        framed(frame.settings, 0, 0, settings),
        granted(WINDOW),
      ]),
    );
  }

  static open(host: string, port: number): Promise<LeanClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port }, () => resolve(new LeanClient(socket)));
      socket.once('error', reject);
    });
  }

  /** `block` is of `headerBlock`. With `last` false the stream stays open for `send`. @returns its number */
  call(block: Buffer, message: Buffer, listener: Listener, last = true): number {
    const id = this.#next;
    this.#next += 2;
    this.#listeners.set(id, listener);
    this.#socket.write(
      Buffer.concat([framed(frame.headers, END_HEADERS, id, block), ...messageFrames(id, message, last)]),
    );
    return id;
  }

  send(id: number, message: Buffer): void {
    this.#socket.write(Buffer.concat(messageFrames(id, message, false)));
  }

  close(): void {
    this.#listeners.clear();
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= HEAD) {
      const end = at + HEAD + bytes.readUIntBE(at, 3);
      if (bytes.length < end) break;
      this.#handle(
        bytes[at + 3]!,
        bytes[at + 4]!,
        bytes.readUInt32BE(at + 5),
        bytes.subarray(at + HEAD, end),
      );
      at = end;
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : undefined;
    this.#received += chunk.length;
    if (this.#received > WINDOW / 2) {
      this.#socket.write(granted(this.#received));
      this.#received = 0;
    }
  }

  #handle(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === frame.data) this.#data(id, payload);
    else if (type === frame.settings && (flags & ACK) === 0)
      this.#socket.write(framed(frame.settings, ACK, 0, Buffer.alloc(0)));
    else if (type === frame.ping && (flags & ACK) === 0)
      this.#socket.write(framed(frame.ping, ACK, 0, payload));
    const ends = (type === frame.data || type === frame.headers) && (flags & END_STREAM) !== 0;
    if (!ends && type !== frame.reset) return;
    const listener = this.#listeners.get(id);
    this.#listeners.delete(id);
    this.#parts.delete(id);
    listener?.end();
  }

  #data(id: number, payload: Buffer): void {
    const before = this.#parts.get(id);
    let bytes = before === undefined ? payload : Buffer.concat([before, payload]);
    while (bytes.length >= PREFIX) {
      const end = PREFIX + bytes.readUInt32BE(1);
      if (bytes.length < end) break;
      this.#listeners.get(id)?.message(bytes.subarray(PREFIX, end));
      bytes = bytes.subarray(end);
    }
    if (bytes.length > 0) this.#parts.set(id, bytes);
    else this.#parts.delete(id);
  }
}

/** A request's headers, as literals that are not indexed (RFC 7541, section 6.2.2). */
export function headerBlock(path: string, authority: string): Buffer {
  const headers = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': authority,
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]),
  );
}

/** Shorter than 127 bytes, and not packed. */
function literal(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

/** What is longer than a frame may be is in several. */
function messageFrames(id: number, message: Buffer, last: boolean): Buffer[] {
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32BE(message.length, 1);
  const whole = Buffer.concat([prefix, message]);
  const frames: Buffer[] = [];
  for (let at = 0; at < whole.length; at += 16_384) {
    const isLast = last && at + 16_384 >= whole.length;
    frames.push(framed(frame.data, isLast ? END_STREAM : 0, id, whole.subarray(at, at + 16_384)));
  }
  return frames;
}

function framed(type: number, flags: number, id: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEAD);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

function granted(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return framed(frame.windowUpdate, 0, 0, payload);
}
