/**
 * A TCP connection that carries whole messages to one peer whose key is known (lib/noise). On it are frames: a length of two bytes, then a
 * message of Noise. The three of the handshake have one length each. Behind them each frame holds a byte, 1 if the message goes on, 0 if it
 * ends here, and a part of it; parts that go on are full, so that no frame is smaller than it has to be.
 *
 * Nothing is read before it is asked for: who sends more than is taken fills the kernel's buffers, and then waits.
 */
import type { Socket } from 'node:net';
import { type CipherState, TAG_BYTES } from '../../../lib/noise/cipher-state.ts';
import { Handshake, type HandshakeOptions, type Session } from '../../../lib/noise/handshake.ts';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../../lib/protocol/records/sync/messages.ts';
import type { WireLimits } from './limits.ts';
import { closed, SocketReader } from './socket-reader.ts';

const LENGTH_BYTES = 2;
/** Noise section 3. */
const MAX_FRAME = 65_535;
const PART_BYTES = MAX_FRAME - TAG_BYTES - 1;
const GOES_ON = 1;
const ENDS = 0;
const MIN_FRAME = 1 + TAG_BYTES;

export class SecureSocket {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #session: Session;
  readonly #limits: WireLimits;
  #received = 0;

  private constructor(socket: Socket, reader: SocketReader, session: Session, limits: WireLimits) {
    this.#socket = socket;
    this.#reader = reader;
    this.#session = session;
    this.#limits = limits;
  }

  /**
   * Does the handshake. What throws has ended the connection.
   * @throws NOISE_… of lib/noise; WIRE_FRAME; WIRE_HANDSHAKE_SLOW; WIRE_CLOSED
   */
  static async over(socket: Socket, options: HandshakeOptions, limits: WireLimits): Promise<SecureSocket> {
    // An error is seen by whoever reads or writes next.
    socket.on('error', () => {});
    socket.setNoDelay(true);
    const handshake = new Handshake(options);
    const reader = new SocketReader(socket);
    const slow = setTimeout(
      () => socket.destroy(wireError('WIRE_HANDSHAKE_SLOW', 'the handshake was not over in time')),
      limits.handshakeWithin,
    );
    try {
      while (!handshake.isOver) {
        if (handshake.isOurTurn) socket.write(framed(handshake.write()));
        else handshake.read(await handshakeFrame(reader, handshake.nextLength));
      }
      return new SecureSocket(socket, reader, handshake.finish(), limits);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(slow);
    }
  }

  /** The peer's static key, in hex. */
  get key(): string {
    return toHex(this.#session.remoteStatic);
  }

  get address(): string {
    return `${this.#socket.remoteAddress}:${this.#socket.remotePort}`;
  }

  get receivedBytes(): number {
    return this.#received;
  }

  get sentBytes(): number {
    return this.#socket.bytesWritten;
  }

  /** Bytes that wait to be sent. */
  get backlog(): number {
    return this.#socket.writableLength;
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  /** Calls once when the connection is of no use any more. */
  onClose(listener: () => void): void {
    if (this.#socket.destroyed) listener();
    else this.#socket.once('close', listener);
  }

  /** Hands a message over. What it returns is what it took on the wire; who sends much asks `backlog`, and waits for `taken`. */
  send(message: Uint8Array): number {
    let sent = 0;
    for (let at = 0; at === 0 || at < message.length; at += PART_BYTES) {
      const part = message.subarray(at, at + PART_BYTES);
      const flag = at + PART_BYTES < message.length ? GOES_ON : ENDS;
      const sealed = this.#session.send.seal(Buffer.concat([Uint8Array.of(flag), part]));
      this.#rekey(this.#session.send);
      if (this.#socket.writable) this.#socket.write(framed(sealed));
      sent += LENGTH_BYTES + sealed.length;
    }
    return sent;
  }

  /** Waits until less than this part of the limit waits to be sent. @throws WIRE_SLOW, WIRE_CLOSED */
  async taken(part = 1): Promise<void> {
    const slow = setTimeout(
      () => this.#socket.destroy(wireError('WIRE_SLOW', 'the peer takes nothing')),
      this.#limits.takenWithin,
    );
    try {
      while (this.backlog >= this.#limits.backlog * part) await drained(this.#socket);
    } finally {
      clearTimeout(slow);
    }
  }

  /**
   * The peer's next message. What threw is of no use any more.
   * @throws WIRE_IDLE without a whole message in time; WIRE_FRAME; WIRE_MESSAGE for one that is too large or in parts that are too small;
   *   NOISE_REFUSED; WIRE_CLOSED when the connection has ended
   */
  async receive(): Promise<Uint8Array> {
    const idle = setTimeout(
      () => this.#socket.destroy(wireError('WIRE_IDLE', 'no whole message came in time')),
      this.#limits.idle,
    );
    try {
      return await this.#message();
    } finally {
      clearTimeout(idle);
    }
  }

  /** Ends the connection once all is sent that waits, or after as long as the peer may take for that. */
  end(): void {
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), Math.min(2_000, this.#limits.takenWithin));
    this.#socket.once('close', () => clearTimeout(timer));
    // What has come must not keep the end from being seen.
    this.#reader.stop();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async #message(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const frame = await this.#frame();
      const [flag, part] = [frame[0], frame.subarray(1)];
      length += part.length;
      if (length > MAX_MESSAGE_BYTES) {
        throw wireError('WIRE_MESSAGE', `a message has up to ${MAX_MESSAGE_BYTES} bytes; divide it`);
      }
      parts.push(part);
      if (flag === ENDS) return parts.length === 1 ? part : new Uint8Array(Buffer.concat(parts));
      if (flag !== GOES_ON || part.length !== PART_BYTES) {
        throw wireError('WIRE_MESSAGE', 'a part of a message that goes on is full, and says so by a 1');
      }
    }
  }

  async #frame(): Promise<Uint8Array> {
    const length = (await this.#reader.exactly(LENGTH_BYTES)).readUInt16BE();
    if (length < MIN_FRAME)
      throw wireError('WIRE_FRAME', `a frame has ${MIN_FRAME} bytes at least, not ${length}`);
    const sealed = await this.#reader.exactly(length);
    this.#received += LENGTH_BYTES + length;
    const frame = this.#session.receive.open(sealed);
    this.#rekey(this.#session.receive);
    return frame;
  }

  /** Both sides count the frames of a direction, and so agree on its key. */
  #rekey(cipher: CipherState): void {
    if (cipher.count % BigInt(this.#limits.rekeyFrames) === 0n) cipher.rekey();
  }
}

async function handshakeFrame(reader: SocketReader, expected: number): Promise<Uint8Array> {
  const length = (await reader.exactly(LENGTH_BYTES)).readUInt16BE();
  if (length !== expected) {
    throw wireError('WIRE_FRAME', `a frame of the handshake has ${expected} bytes here, not ${length}`);
  }
  return reader.exactly(length);
}

function framed(content: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(LENGTH_BYTES + content.length);
  frame.writeUInt16BE(content.length);
  frame.set(content, LENGTH_BYTES);
  return frame;
}

/** Until all is sent that waited, or the connection ends. @throws WIRE_CLOSED, or what it was destroyed with */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      if (socket.destroyed) reject(closed(socket));
      else resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
    if (socket.destroyed) done();
  });
}

function wireError(code: string, message: string): DstackError {
  return new DstackError(code, message);
}
