/**
 * A node's side of privval: it listens, serves one signer at a time while others wait without a byte, and asks. Over TCP with a key of its
 * own, or over a unix socket.
 */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { ed25519Key } from '../../../lib/cometbft/ed25519.ts';
import { SecretConnection } from '../../../lib/cometbft/secret-connection.ts';
import { decode, delimit, encode, type Plain } from './definition.ts';

/** A node waits that long for an answer, milliseconds. */
const PATIENCE = 60_000;

export class TestNode {
  readonly #server: Server;
  readonly #isTcp: boolean;
  readonly #waiting: Socket[] = [];
  #link: Link | undefined;
  /** The address for the signer's configuration. */
  readonly address: string;

  private constructor(server: Server, isTcp: boolean, address: string) {
    this.#server = server;
    this.#isTcp = isTcp;
    this.address = address;
    server.on('connection', (socket) => {
      // Not even read: as one that the kernel holds for a node that accepts one.
      socket.on('error', () => {});
      this.#waiting.push(socket);
    });
  }

  /** @param path of a unix socket; a port of the loopback without */
  static async listen(path?: string, port = 0): Promise<TestNode> {
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    if (path === undefined) server.listen(port, '127.0.0.1');
    else server.listen(path);
    await once(server, 'listening');
    const at = server.address();
    const address = typeof at === 'string' || at === null ? `unix://${path}` : `tcp://127.0.0.1:${at.port}`;
    return new TestNode(server, path === undefined, address);
  }

  get port(): number {
    return Number(/:(\d+)$/.exec(this.address)?.[1]);
  }

  /** Signers that are connected and not served. */
  get queue(): number {
    return this.#waiting.filter((socket) => !socket.destroyed && !socket.readableEnded).length;
  }

  /** Takes the next signer, as a node does when it has none. */
  async accept(within = 60_000): Promise<void> {
    for (
      const until = Date.now() + within;
      Date.now() < until;
      await new Promise((resolve) => setTimeout(resolve, 10))
    ) {
      for (let socket = this.#waiting.shift(); socket !== undefined; socket = this.#waiting.shift()) {
        if (socket.destroyed) continue;
        const link = new Link(socket, this.#isTcp);
        try {
          await link.ready();
          this.#link = link;
          return;
        } catch {
          socket.destroy();
        }
      }
    }
    throw new Error('no signer came');
  }

  /** One request and its answer. */
  async ask(request: Plain, kind = 'Request'): Promise<Plain> {
    if (this.#link === undefined) await this.accept();
    return decode('Response', await this.#link!.exchange(delimit(encode(kind, request))));
  }

  /** Bytes as they are, to the signer that is served. */
  write(bytes: Uint8Array): void {
    this.#link!.write(bytes);
  }

  /** The next answer. */
  async read(): Promise<Plain> {
    return decode('Response', await this.#link!.next());
  }

  get isConnected(): boolean {
    return this.#link?.isOpen === true;
  }

  /** Ends the connection that it serves. */
  drop(): void {
    this.#link?.end();
    this.#link = undefined;
  }

  async close(): Promise<void> {
    this.drop();
    for (const socket of this.#waiting) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

class Link {
  readonly #socket: Socket;
  readonly #secret: SecretConnection | undefined;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => {};
  #problem: unknown;

  constructor(socket: Socket, isTcp: boolean) {
    this.#socket = socket;
    this.#secret = isTcp ? new SecretConnection(ed25519Key(randomBytes(32))) : undefined;
    socket.on('data', (chunk) => this.#take(chunk as Buffer));
    socket.on('close', () => {
      this.#problem ??= new Error('the signer closed the connection');
      this.#wake();
    });
    if (this.#secret !== undefined) socket.write(this.#secret.hello());
    socket.resume();
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  async ready(): Promise<void> {
    while (this.#secret !== undefined && this.#secret.peer === undefined) await this.#wait();
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(this.#secret === undefined ? bytes : this.#secret.seal(bytes));
  }

  async exchange(bytes: Uint8Array): Promise<Uint8Array> {
    this.write(bytes);
    return this.next();
  }

  async next(): Promise<Uint8Array> {
    for (;;) {
      const head = lengthOf(this.#bytes);
      if (head !== undefined && this.#bytes.length >= head.at + head.length) {
        const message = this.#bytes.subarray(head.at, head.at + head.length);
        // What a node reads at most.
        if (head.at + head.length > 10 * 1024) throw new Error('the answer is longer than a node reads');
        this.#bytes = this.#bytes.subarray(head.at + head.length);
        return message;
      }
      await this.#wait();
    }
  }

  end(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    try {
      const { send, data } = this.#secret?.receive(chunk) ?? { send: Buffer.alloc(0), data: chunk };
      if (send.length > 0) this.#socket.write(send);
      this.#bytes = Buffer.concat([this.#bytes, data]);
    } catch (error) {
      this.#problem = error;
      this.#socket.destroy();
    }
    this.#wake();
  }

  async #wait(): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        timer = setTimeout(() => reject(new Error('the signer does not answer')), PATIENCE);
      });
    } finally {
      clearTimeout(timer);
    }
  }
}

function lengthOf(bytes: Buffer): { length: number; at: number } | undefined {
  let length = 0;
  for (let at = 0; at < Math.min(5, bytes.length); at += 1) {
    length += (bytes[at]! & 127) * 2 ** (7 * at);
    if (bytes[at]! < 128) return { length, at: at + 1 };
  }
  return undefined;
}
