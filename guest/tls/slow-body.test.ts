/** Bodies that come byte by byte: a connection to an app is not to be had for one byte a minute. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { listenOn, TestFront } from '../../test/support/front.ts';

/** Milliseconds in which only what hangs has not come. */
const PATIENCE = 60_000;

/** Requests that the app still waits for. */
const waiting = new Set<unknown>();
const app = createServer((req, res) => {
  waiting.add(req);
  req.on('close', () => waiting.delete(req));
  text(req).then(
    (body) => res.end(`read ${body.length}`),
    () => {},
  );
});
app.on('upgrade', (req, socket) => {
  socket.on('error', () => {});
  // RFC 6455, 4.2.2.
  const accept = createHash('sha1')
    .update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.pipe(socket);
});
let front: TestFront;

beforeAll(async () => {
  front = await TestFront.start({ times: { body: 2_000, client: 6_000, request: 2_000 } });
  await front.serve(await listenOn(app));
});
afterAll(async () => {
  await front.stop();
  app.close();
  app.closeAllConnections();
});

const open = (protocol?: string): TLSSocket =>
  connect({
    host: '127.0.0.1',
    port: front.port,
    rejectUnauthorized: false,
    ...(protocol && { ALPNProtocols: [protocol] }),
  });

/** Sends a head, then a piece each 300 ms until it was enough; all that came back. */
function drip(
  head: string,
  piece: string,
  isEnough: (pieces: number) => boolean,
  { last = '', port = front.port } = {},
): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    let said = '';
    let pieces = 0;
    socket.write(head);
    const timer = setInterval(() => {
      if (!isEnough(pieces++)) socket.write(piece);
      else {
        clearInterval(timer);
        socket.write(last);
      }
    }, 300);
    socket
      .on('data', (chunk) => {
        said += chunk.toString('latin1');
      })
      .on('error', () => {})
      .on('close', () => {
        clearInterval(timer);
        resolve(said);
      });
  });
}
const POST = 'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n';

test.each([
  ['a length', `${POST}Content-Length: 100000\r\n\r\n`, 'x'],
  ['chunks', `${POST}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n'],
])('a body with %s is not waited for without end', async (_, head, piece) => {
  let isRid = false;
  const ended = drip(head, piece, () => isRid);
  await vi.waitFor(() => expect(waiting.size).toBe(1), PATIENCE);
  // The app is rid of it while it goes on; HAProxy itself waits a little longer for who goes on sending after a refusal.
  await vi.waitFor(() => expect(waiting.size).toBe(0), PATIENCE);
  isRid = true;
  expect(await ended).toMatch(/^HTTP\/1.1 400 /);
});

test('nor over HTTP/2', async () => {
  const session = connectHttp2(`https://127.0.0.1:${front.port}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  const stream = session.request({ ':method': 'POST', ':path': '/' });
  const began = performance.now();
  const timer = setInterval(() => stream.writable && stream.write('x'), 300);
  const said = await text(stream).catch(() => 'cut off');
  clearInterval(timer);
  session.destroy();
  expect(said).not.toContain('read');
  expect(performance.now() - began).toBeLessThan(60_000);
});

test('one that is slow, but in time, is read', async () => {
  // On a slow machine the pieces come later than they are meant to.
  const patient = await TestFront.start({ times: { body: 60_000, client: 60_000, request: 60_000 } });
  await patient.serve((app.address() as AddressInfo).port);
  const said = await drip(
    `${POST}Transfer-Encoding: chunked\r\n\r\n`,
    '1\r\nx\r\n',
    (pieces) => pieces === 4,
    { last: '0\r\n\r\n', port: patient.port },
  );
  expect(said).toMatch(/ 200 [\s\S]*read 4/);
  await patient.stop();
  // Pieces that are no body: a head over HTTP/2 whose end never comes.
  const began = performance.now();
  await new Promise<void>((resolve) => {
    const socket = open('h2');
    socket
      .resume()
      .on('error', () => {})
      .on('close', () => resolve());
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
    // Of 100 bytes of headers for stream 1.
    socket.write('\0\0\x64\x01\x04\0\0\0\x01', 'latin1');
    const timer = setInterval(() => socket.write('\x82'), 300);
    socket.on('close', () => clearInterval(timer));
  });
  expect(performance.now() - began).toBeLessThan(60_000);
});

test.each(['http/1.1', 'h2'])('a WebSocket has no body: over %s it lasts', async (protocol) => {
  let seen = '';
  const add = (chunk: Buffer) => {
    seen += chunk.toString('latin1');
  };
  let say: (text: string) => void;
  let leave: () => void;
  if (protocol === 'h2') {
    const session = connectHttp2(`https://127.0.0.1:${front.port}`, { rejectUnauthorized: false });
    await new Promise((resolve) => session.on('remoteSettings', resolve));
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': '/',
      'sec-websocket-version': '13',
    });
    stream.on('data', add).on('error', () => {});
    await new Promise((resolve) => stream.on('response', resolve));
    say = (text) => stream.write(text);
    leave = () => session.destroy();
  } else {
    const socket = open();
    socket.on('data', add).on('error', () => {});
    socket.write(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    say = (text) => socket.write(text);
    leave = () => socket.destroy();
  }
  for (let i = 0; i < 10; i++) {
    say(`${i};`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  await vi.waitFor(() => expect(seen).toMatch(/0;1;2;3;4;5;6;7;8;9;$/), PATIENCE);
  leave();
});
