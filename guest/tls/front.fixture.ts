/** A front of HAProxy's own before an app of the test's, and ways to ask it over TLS. */
import { createHash, X509Certificate } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { type Agent, request } from 'node:https';
import { createServer as createTcpServer } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { listenOn, TestFront } from '../../test/support/front.ts';

/** Milliseconds in which only what hangs has not come. */
export const PATIENCE = 60_000;

export interface Ask {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: Buffer;
  servername?: string;
  port?: number;
  agent?: Agent | false;
}

/** The app, and the front that leads to it at the beginning of each test. */
export class Fronted {
  /** What the app does with a request. */
  handle: (req: IncomingMessage, res: ServerResponse) => void = () => {};
  /** It takes what it gets: what is refused here, the front refuses. */
  readonly app = createServer({ requireHostHeader: false }, (req, res) => this.handle(req, res));
  /** Those that the app sees; it echoes what they say. */
  readonly webSockets = new Set<unknown>();
  /** Where the app listens. */
  port = 0;
  front!: TestFront;

  /** Starts both before all tests of the file, and ends them after. */
  static forAllTests(): Fronted {
    const fronted = new Fronted();
    beforeAll(() => fronted.#start());
    beforeEach(() => fronted.front.serve(fronted.port));
    afterAll(() => fronted.#stop());
    return fronted;
  }

  async #start(): Promise<void> {
    this.app.on('upgrade', (req, socket, head) => {
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${acceptOf(req.headers['sec-websocket-key'])}\r\n\r\n`,
      );
      socket.write(head);
      socket.pipe(socket);
      this.webSockets.add(socket);
      socket.on('close', () => this.webSockets.delete(socket));
      socket.on('error', () => this.webSockets.delete(socket));
    });
    this.port = await listenOn(this.app);
    this.front = await TestFront.start({ limits: { bodyBytes: 1_000_000 } });
  }

  async #stop(): Promise<void> {
    await this.front.stop();
    this.app.close();
    this.app.closeAllConnections();
  }

  readonly ask = async ({
    method = 'GET',
    path = '/',
    headers = {},
    body,
    servername = 'localhost',
    port = this.front.port,
    agent = false,
  }: Ask = {}) => {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port,
        servername,
        ca: this.front.credentials.certificate,
        checkServerIdentity: () => undefined,
      };
      const req = request({ ...options, method, path, headers, agent }, resolve).on('error', reject);
      req.end(body);
    });
    return { status: response.statusCode, headers: response.headers, body: await buffer(response) };
  };

  readonly dial = (options: ConnectionOptions = {}): TLSSocket =>
    connect({ host: '127.0.0.1', port: this.front.port, rejectUnauthorized: false, ...options });

  /** All that comes back for these bytes until the front hangs up. */
  readonly raw = (lines: string, options: ConnectionOptions = {}): Promise<string> =>
    new Promise((resolve) => {
      const socket = this.dial(options);
      let seen = '';
      socket.on('data', (chunk) => {
        seen += chunk.toString('latin1');
      });
      socket.on('close', () => resolve(seen)).on('error', () => {});
      socket.write(lines, 'latin1');
    });

  /** The fingerprint of the certificate that is shown for a name. */
  readonly shown = (servername?: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = this.dial(servername === undefined ? {} : { servername });
      socket.on('error', reject).on('secureConnect', () => {
        resolve(new X509Certificate(socket.getPeerCertificate(true).raw).fingerprint256);
        socket.destroy();
      });
    });

  /** The body of an answer over HTTP/2, or why there is none. */
  readonly overHttp2 = async (
    headers: Record<string, string>,
    body?: readonly string[],
    trailers?: Record<string, string>,
  ): Promise<string> => {
    const session = connectHttp2(`https://localhost:${this.front.port}`, {
      ca: this.front.credentials.certificate,
    });
    session.on('error', () => {});
    const stream = session.request(headers, { endStream: body === undefined, waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? {}));
    for (const part of body ?? []) {
      stream.write(part);
      await pause();
    }
    if (body !== undefined) stream.end();
    const said = await text(stream).catch((error: Error) => error.message);
    session.destroy();
    return said;
  };
}

/** RFC 6455, 4.2.2. */
const acceptOf = (key: unknown): string =>
  createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

export const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

/** A server whose every answer is these bytes, after which it hangs up. */
export async function saying(answer: string): Promise<{ port: number; close(): void }> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(answer, 'latin1'));
  });
  return { port: await listenOn(server), close: () => server.close() };
}
