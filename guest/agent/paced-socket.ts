/**
 * A connection whose bytes reach the HTTP server a little at a time, in turn with the other connections of its app. Node by itself
 * takes megabytes at once of each that has them, and a few bytes of HTTP, or one of a chunk, are as much work as kilobytes of a body.
 *
 * Of requests that come one after the other without waiting (RFC 9112, section 9.3.2) one is given, and what follows it when that is
 * answered: Node by itself parses all that there are in what it is given, and has as many under way as there are bytes. So what is given
 * ends where a request may end: in the middle of nothing but a body of a known length it ends after each empty line, since both headers and the
 * chunks of a body end with one (sections 2.1 and 7.1), and Node's parser takes no other end of a line for one.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Origin } from '../callers.ts';

/** What is given in a turn, bytes; and of a body of a known length, in which nothing is looked at. */
const SLICE = 2 * 1024;
const BODY_SLICE = 32 * 1024;
/** What is dropped of a request that was answered before its end, bytes, and for how long at most, milliseconds. */
const DROPPED = 2 ** 20;
const DROPPED_FOR = 2_000;
const EMPTY_LINE = '\r\n\r\n';
const NOTHING = Buffer.alloc(0);

/** Whose a connection is: Node does not tell it any more once it is closed. */
export interface From {
  /** What its bytes and requests count towards. */
  readonly app: string;
  readonly origin: Origin;
}

export class PacedSocket extends Duplex {
  readonly app: string;
  readonly origin: Origin;
  /** Whether it has had any use: an answer, also a refusal. */
  hasAnswered = false;
  readonly #socket: Socket;
  readonly #inTurn: (action: () => void) => Promise<void>;
  #isWanted = false;
  #isWaiting = false;
  /** What was taken from the socket and not given yet; its last bytes may be there when it has ended. */
  #taken: Buffer = NOTHING;
  #isEnded = false;
  /** The last bytes that were given, of what may be an empty line's begin. */
  #tail: Buffer = NOTHING;
  /** Of the body of the request that was read last, where its length is known. Bytes. */
  #bodyLeft = 0;
  #unanswered: IncomingMessage | undefined;
  /** What was dropped so far, once nothing else is done with what comes. Bytes. */
  #dropped: number | undefined;

  /** @param inTurn does something in the app's turn */
  constructor(socket: Socket, { app, origin }: From, inTurn: (action: () => void) => Promise<void>) {
    // What was given is parsed before the next is taken.
    super({ allowHalfOpen: true, readableHighWaterMark: 1 });
    this.#socket = socket;
    this.#inTurn = inTurn;
    this.app = app;
    this.origin = origin;
    // Nobody else may be there yet to hear of it.
    this.on('error', () => {});
    socket
      .on('readable', () => this.#feed())
      .on('end', () => {
        this.#isEnded = true;
        this.#feed();
      })
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
    const close = this.#unanswered?.complete === false ? () => this.#drop() : () => this.destroy();
    if (this.writable) this.end();
    if (this.writableFinished) close();
    else this.once('finish', close);
  }

  /** Who still sends would lose its answer if the connection were closed before (RFC 9112, section 9.6). None of it is parsed. */
  #drop(): void {
    if (this.#socket.readableEnded) return void this.destroy();
    this.#dropped = 0;
    const timer = setTimeout(() => this.destroy(), DROPPED_FOR);
    this.once('close', () => clearTimeout(timer));
    this.#feed();
  }

  /** The headers of a request were given. What comes after it waits until it is answered; its body does not. */
  asks(request: IncomingMessage): void {
    this.#unanswered = request;
    this.#bodyLeft = Number(request.headers['content-length'] ?? 0);
  }

  /** The request before is answered, or will never be. */
  answered(): void {
    this.#unanswered = undefined;
    this.#feed();
  }

  override _read(): void {
    this.#isWanted = true;
    this.#feed();
  }

  /** Not while a request that was given to its end has no answer; and what gets no more answers needs no more requests. */
  get #mayGive(): boolean {
    return this.#unanswered?.complete !== true && !this.destroyed && !this.writableEnded;
  }

  get #length(): number {
    return this.#taken.length + this.#socket.readableLength;
  }

  #feed(): void {
    // Asked for without there being any, it tells of its end.
    if (this.#socket.readableLength === 0) this.#socket.read(0);
    if (this.#length === 0 && this.#isEnded) {
      this.#isEnded = false;
      if (this.#dropped === undefined) this.push(null);
      else this.destroy();
    }
    if (this.#isWaiting || !this.#hasUse || this.#length === 0) return;
    this.#isWaiting = true;
    void this.#inTurn(() => {
      this.#isWaiting = false;
      if (this.#dropped === undefined) this.#give();
      else this.#dropMore(this.#dropped);
      this.#feed();
    });
  }

  get #hasUse(): boolean {
    return this.#dropped === undefined ? this.#isWanted && this.#mayGive : !this.destroyed;
  }

  /** As much as may be in a turn, and no more than up to where a request may end: a body of a known length comes with its headers. */
  #give(): void {
    let given = 0;
    const room = () => (this.#bodyLeft > 0 ? BODY_SLICE : SLICE) - given;
    do {
      const piece = this.#mayGive ? this.#take(room()) : NOTHING;
      if (piece.length === 0) return;
      given += piece.length;
      this.#isWanted = false;
      this.push(piece);
    } while (this.#bodyLeft > 0 && room() > 0 && this.readableLength === 0);
  }

  /** All that is there. */
  #dropMore(before: number): void {
    this.#dropped = before + this.#length;
    this.#taken = NOTHING;
    this.#socket.read();
    if (this.#dropped >= DROPPED) this.destroy();
  }

  /** The next bytes, up to where a request may end. */
  #take(most: number): Buffer {
    const all = this.#taken.length > 0 ? this.#taken : this.#read(most);
    const length = Math.min(all.length, most, this.#bodyLeft || this.#toEmptyLine(all));
    const piece = all.subarray(0, length);
    this.#taken = all.subarray(length);
    if (this.#bodyLeft > 0) this.#bodyLeft -= length;
    else this.#tail = Buffer.concat([this.#tail, piece]).subarray(1 - EMPTY_LINE.length);
    return piece;
  }

  #read(most: number): Buffer {
    return (this.#socket.read(Math.min(most, this.#socket.readableLength)) as Buffer | null) ?? NOTHING;
  }

  /** Bytes up to the end of the first empty line, of which what was given before may be a part; infinitely many if there is none. */
  #toEmptyLine(bytes: Buffer): number {
    const given = this.#tail.length;
    const seam = Buffer.concat([this.#tail, bytes.subarray(0, EMPTY_LINE.length - 1)]).indexOf(EMPTY_LINE);
    if (seam !== -1) return seam + EMPTY_LINE.length - given;
    const at = bytes.indexOf(EMPTY_LINE);
    return at === -1 ? Number.POSITIVE_INFINITY : at + EMPTY_LINE.length;
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
