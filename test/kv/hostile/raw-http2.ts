/** HTTP/2 by hand, for what no library would send: frames are written as they are given, and what comes back is only counted. */
import { connect, type Socket } from 'node:net';

export const frame = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function framed(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Headers as literals that are not indexed; a name or value of up to 16,000 bytes. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]),
  );
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length: number[] = [127];
  for (let rest = bytes.length - 127; ; rest >>= 7) {
    length.push(rest >= 128 ? (rest & 127) | 128 : rest);
    if (rest < 128) break;
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

export const grpcHeaders = (path: string, more: Readonly<Record<string, string>> = {}): Buffer =>
  headerBlock({
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'kv',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...more,
  });

/** gRPC's prefix and a message. */
export function grpcMessage(body: Uint8Array, length = body.length, compressed = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = compressed;
  prefix.writeUInt32BE(length >>> 0, 1);
  return Buffer.concat([prefix, body]);
}

/** A connection that never minds what becomes of it. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #received: Buffer[] = [];
  closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#received.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  static open(address: string): Promise<RawConnection> {
    const [host, port] = address.split(':') as [string, string];
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port: Number(port) }, () => resolve(new RawConnection(socket)));
      socket.once('error', reject);
    });
  }

  /** With HTTP/2's beginning. */
  static async speaking(address: string): Promise<RawConnection> {
    const connection = await RawConnection.open(address);
    await connection.write(PREFACE, framed(frame.settings, 0, 0));
    return connection;
  }

  /** Waits while the other side takes nothing, for a while. */
  async write(...parts: readonly Uint8Array[]): Promise<void> {
    if (this.closed) return;
    const sent = this.#socket.write(Buffer.concat(parts));
    if (sent) return;
    await Promise.race([
      new Promise((resolve) => this.#socket.once('drain', resolve)),
      new Promise((resolve) => this.#socket.once('close', resolve)),
      pause(500),
    ]);
  }

  /** Reads nothing any more. */
  stall(): void {
    this.#socket.pause();
  }

  received(): Buffer {
    return Buffer.concat(this.#received);
  }

  close(): void {
    this.#socket.destroy();
  }
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
