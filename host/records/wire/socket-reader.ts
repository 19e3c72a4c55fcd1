/**
 * Takes from a socket as many bytes as are needed next, once all of them have come. Nothing is read ahead of that but what Node keeps for one
 * read: whoever sends more waits.
 */
import type { Socket } from 'node:net';
import { DstackError } from '../../../lib/protocol/errors.ts';

export class SocketReader {
  readonly #socket: Socket;
  #wake = (): void => {};
  // One listener for all reads: each new one would be told of bytes that are there already, and too few.
  readonly #listener = (): void => this.#wake();

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('readable', this.#listener);
    socket.once('end', this.#listener);
    socket.once('close', this.#listener);
  }

  /** @throws WIRE_CLOSED when the connection ends before, or what it was destroyed with */
  async exactly(length: number): Promise<Buffer> {
    for (;;) {
      if (this.#socket.destroyed) throw closed(this.#socket);
      const bytes = this.#socket.read(length) as Buffer | null;
      if (bytes?.length === length) return bytes;
      // At its end a stream gives what is left.
      if (bytes !== null || this.#socket.readableEnded) throw closed(this.#socket);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What comes from now on is thrown away. */
  stop(): void {
    this.#socket.off('readable', this.#listener);
    this.#socket.resume();
  }
}

/** Why a socket is of no use any more. */
export function closed(socket: Socket): DstackError {
  const cause = socket.errored;
  if (cause instanceof DstackError) return cause;
  return new DstackError('WIRE_CLOSED', 'the connection has ended; connect again', { cause });
}
