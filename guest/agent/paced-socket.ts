/**
 * A connection whose bytes reach the HTTP server a little at a time, in turn with the other connections of its app. Node by itself
 * takes megabytes at once of each that has them, and a few bytes of HTTP, or one of a chunk, are as much work as kilobytes of a body.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Origin } from '../callers.ts';

/** Of the smallest requests there are a hundred in so many bytes. */
const SLICE = 2 * 1024;

/** Whose a connection is: Node does not tell it any more once it is closed. */
export interface From {
  /** What its bytes and requests count towards. */
  readonly app: string;
  readonly origin: Origin;
}

export class PacedSocket extends Duplex {
  readonly app: string;
  readonly origin: Origin;
  /** A request of it is not answered yet. */
  isAsking = false;
  readonly #socket: Socket;
  readonly #inTurn: (action: () => void) => Promise<void>;
  #isWanted = false;
  #isWaiting = false;

  /** @param inTurn does something in the app's turn */
  constructor(socket: Socket, { app, origin }: From, inTurn: (action: () => void) => Promise<void>) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#inTurn = inTurn;
    this.app = app;
    this.origin = origin;
    socket
      .on('readable', () => this.#feed())
      .on('end', () => this.push(null))
      .on('timeout', () => this.emit('timeout'))
      .on('error', (error) => this.destroy(error))
      .on('close', () => this.destroy());
  }

  /** As a socket's: node:http closes by it what is kept alive for too long. */
  setTimeout(milliseconds: number): this {
    this.#socket.setTimeout(milliseconds);
    return this;
  }

  /** As a socket's: node:http ends by it a connection that has had its last answer. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  override _read(): void {
    this.#isWanted = true;
    this.#feed();
  }

  #feed(): void {
    // Asked for without there being any, it tells of its end.
    if (this.#socket.readableLength === 0) this.#socket.read(0);
    if (!this.#isWanted || this.#isWaiting || this.#socket.readableLength === 0) return;
    this.#isWaiting = true;
    void this.#inTurn(() => {
      this.#isWaiting = false;
      if (this.destroyed) return;
      this.#isWanted = false;
      const slice: Buffer | null = this.#socket.read(Math.min(SLICE, this.#socket.readableLength));
      if (slice === null) this.#isWanted = true;
      else this.push(slice);
    });
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, encoding, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
