/** For tests: two ends of a TCP connection over the loopback, and ends that do as they please. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Handshake, type HandshakeOptions, type Session } from '../../../lib/noise/handshake.ts';
import { keyPairOf } from '../../../lib/noise/x25519.ts';
import { fromHex, sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { handshakePrologue, handshakeSecret } from '../../../lib/protocol/records/sync/greeting.ts';
import { decodeMessage, encodeMessage, type Message } from '../../../lib/protocol/records/sync/messages.ts';
import { WIRE_LIMITS, type WireLimits } from './limits.ts';
import { SecureSocket } from './secure-socket.ts';

export const keyOf = (label: string) => keyPairOf(sha256(utf8(label)));

export const optionsOf = (network: string, label: string, isInitiator: boolean): HandshakeOptions => ({
  isInitiator,
  staticKey: keyOf(label),
  psk: handshakeSecret(fromHex(network)),
  prologue: handshakePrologue(fromHex(network)),
});

export async function listening(accept: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer(accept);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as { port: number }).port };
}

export async function socketPair(): Promise<[Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>();
  const { server, port } = await listening(accepted.resolve);
  const dialled = await connected(port);
  server.close();
  return [dialled, await accepted.promise];
}

export async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

export const limitsOf = (change: Partial<WireLimits>): WireLimits => ({ ...WIRE_LIMITS, ...change });

/** The code with which it fails; `waits` after as long as only what hangs takes. */
export async function codeIn(work: Promise<unknown>): Promise<string> {
  const patience = Promise.withResolvers<string>();
  const timer = setTimeout(() => patience.resolve('waits'), 30_000);
  const code = work.then(() => 'none', codeOf);
  return await Promise.race([code, patience.promise]).finally(() => clearTimeout(timer));
}

export const frame = (content: Uint8Array): Buffer => {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(content.length);
  return Buffer.concat([length, content]);
};

/** Does the initiator's part of a handshake, and then has the keys to send whatever it likes. */
export async function rawInitiator(socket: Socket, options: HandshakeOptions): Promise<Session> {
  const handshake = new Handshake(options);
  socket.write(frame(handshake.write()));
  let bytes = Buffer.alloc(0);
  while (bytes.length < 2 + handshake.nextLength) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
  }
  handshake.read(bytes.subarray(2));
  socket.write(frame(handshake.write()));
  return handshake.finish();
}

/** A peer of the network that says what a test wants it to say. */
export class Liar {
  readonly socket: SecureSocket;
  readonly #raw: Socket;

  static async at(port: number, network: string, label = 'liar'): Promise<Liar> {
    const options = optionsOf(network, label, true);
    const raw = await connected(port);
    const liar = new Liar(raw, await SecureSocket.over(raw, options, WIRE_LIMITS));
    liar.say({ kind: 'hello', network, features: 0 });
    return liar;
  }

  private constructor(raw: Socket, socket: SecureSocket) {
    this.#raw = raw;
    this.socket = socket;
  }

  /** Is gone, and says so: no end that is seen only once all before it was read. */
  reset(): void {
    this.#raw.resetAndDestroy();
  }

  say(message: Message): void {
    this.socket.send(encodeMessage(message));
  }

  async hear(): Promise<Message> {
    return decodeMessage(await this.socket.receive());
  }

  /** What is said up to the first of a kind, and that. */
  async hearUntil<Kind extends Message['kind']>(kind: Kind): Promise<Extract<Message, { kind: Kind }>> {
    for (;;) {
      const message = await this.hear();
      if (message.kind === kind) return message as Extract<Message, { kind: Kind }>;
    }
  }
}
