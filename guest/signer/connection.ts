/**
 * One connection to a node, from its handshake to its end: bytes come in, one request after the other is answered, in their order.
 *
 * While a request is answered nothing is read, so a node that floods holds itself up, and what is kept is at most one message and what
 * the socket holds. A node that begins a message has to end it soon; one that says nothing at all may: it is busy with another signer, or
 * has nothing to ask.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { Deframer, decodeRequest, encodeReply, maxRequestBytes } from '../../lib/cometbft/messages.ts';
import { type Peer, SecretConnection } from '../../lib/cometbft/secret-connection.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ChainSigner } from './chain-signer.ts';

/** Milliseconds. */
export interface ConnectionTimes {
  /** For the handshake, counted from the connection: a node that serves another signer lets it wait. */
  readonly handshake: number;
  /** From the first byte of a message to its last. */
  readonly message: number;
  /** Without a byte, once there was a request: a node pings every 3.3 s. */
  readonly silence: number;
  /** Until a node takes an answer. */
  readonly answer: number;
}

export const TIMES: ConnectionTimes = { handshake: 10_000, message: 5_000, silence: 30_000, answer: 10_000 };

export interface ConnectionEvents {
  /** The node has proved a key. @throws to end the connection */
  readonly authenticated: (peer: Peer) => void;
  /** The node sent its first byte. */
  readonly heard: () => void;
  readonly asked: (kind: string) => void;
}

export interface ConnectionOptions {
  readonly signer: ChainSigner;
  /** For the SecretConnection; undefined over a unix socket, which has none. */
  readonly identity: Ed25519Key | undefined;
  readonly times: ConnectionTimes;
  readonly events: ConnectionEvents;
  /** The beginning of the requests' ids. */
  readonly name: string;
}

/**
 * Serves a connected socket until it ends, and destroys it.
 * @returns when the node has closed it. @throws CONNECTION_QUEUED when no byte came in the time for the handshake, CONNECTION_SILENT,
 * CONNECTION_SLOW, SECRET_CONNECTION, COMETBFT_MALFORMED, COMETBFT_FIELD_UNKNOWN, and the socket's errors
 */
export async function serveConnection(socket: Socket, options: ConnectionOptions): Promise<void> {
  const { signer, identity, times, events } = options;
  const watch = new Watch(socket, times);
  const secret = identity && new SecretConnection(identity);
  const deframer = new Deframer(maxRequestBytes(signer.options.protocol));
  let requests = 0;
  try {
    if (secret !== undefined) {
      watch.handshake();
      socket.write(secret.hello());
    }
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      if (!watch.heard) events.heard();
      watch.hear();
      const data = secret === undefined ? chunk : await shakeOrOpen(secret, chunk, socket, events);
      if (secret !== undefined && secret.peer === undefined) continue;
      watch.shaken();
      for (const message of data.length === 0 ? [] : deframer.push(data)) {
        // Nobody is there to take what would be signed.
        if (socket.destroyed) break;
        watch.pause();
        const request = decodeRequest(message, signer.options.protocol);
        events.asked(request.kind);
        const reply = encodeReply(
          await signer.answer(request, `${options.name}-${++requests}`),
          signer.options.protocol,
        );
        if (!socket.write(secret === undefined ? reply : secret.seal(reply)))
          await taken(socket, times.answer);
      }
      watch.listen(deframer.isWithin, requests > 0);
    }
    if (watch.problem !== undefined) throw watch.problem;
  } catch (error) {
    throw watch.problem ?? error;
  } finally {
    watch.pause();
    socket.destroy();
  }
}

/** Data behind the handshake. */
async function shakeOrOpen(
  secret: SecretConnection,
  chunk: Uint8Array,
  socket: Socket,
  events: ConnectionEvents,
): Promise<Uint8Array> {
  const wasKnown = secret.peer !== undefined;
  const { send, data } = secret.receive(chunk);
  if (send.length > 0) socket.write(send);
  if (!wasKnown && secret.peer !== undefined) events.authenticated(secret.peer);
  return data;
}

async function taken(socket: Socket, within: number): Promise<void> {
  // One that ended meanwhile takes nothing more; whoever reads it finds out why.
  if (socket.destroyed) return;
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), within);
  const { signal } = over;
  try {
    await Promise.race([once(socket, 'drain', { signal }), once(socket, 'close', { signal })]);
  } catch (cause) {
    throw new DstackError('CONNECTION_SLOW', 'the node does not take its answers', { cause });
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

/** Ends a connection that keeps what it owes. */
class Watch {
  readonly #socket: Socket;
  readonly #times: ConnectionTimes;
  #timer: NodeJS.Timeout | undefined;
  #within = false;
  #isShaking = false;
  heard = false;
  problem: DstackError | undefined;

  constructor(socket: Socket, times: ConnectionTimes) {
    this.#socket = socket;
    this.#times = times;
  }

  handshake(): void {
    this.#isShaking = true;
    this.#arm(this.#times.handshake, () =>
      this.heard
        ? new DstackError('CONNECTION_SLOW', 'the node does not end its handshake')
        : new DstackError(
            'CONNECTION_QUEUED',
            'the node takes the connection and says nothing: it has another signer',
          ),
    );
  }

  hear(): void {
    this.heard = true;
  }

  shaken(): void {
    if (!this.#isShaking) return;
    this.#isShaking = false;
    this.pause();
  }

  /** Waits for the node's next bytes. */
  listen(isWithin: boolean, hasAsked: boolean): void {
    // The time of a message under way goes on, however many of its bytes came.
    if (isWithin && this.#within && this.#timer !== undefined) return;
    this.#within = isWithin;
    if (isWithin)
      this.#arm(
        this.#times.message,
        () => new DstackError('CONNECTION_SLOW', 'the node does not end a message'),
      );
    // One that never asked may be a sentry, which is shown and not closed.
    else if (hasAsked)
      this.#arm(this.#times.silence, () => new DstackError('CONNECTION_SILENT', 'the node has gone silent'));
  }

  pause(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(milliseconds: number, problem: () => DstackError): void {
    this.pause();
    this.#timer = setTimeout(() => {
      this.problem = problem();
      this.#socket.destroy();
    }, milliseconds);
  }
}
