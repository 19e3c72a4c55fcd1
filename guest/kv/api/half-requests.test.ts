/** Requests that stop half way, or come a byte at a time: how long they are waited for, and what room they leave to another app's. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { app, startKv, type TestKv } from '../../../test/support/kv.ts';

const WITHIN = 400;
/** More than enough for one that is given up to be seen to end. */
const PATIENCE = { timeout: 10_000 };
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const HOG = '127.0.0.2';
let kv: TestKv;
let address: string;

beforeAll(async () => {
  kv = await startKv();
  address = await kv.open(app('some'), { messageWithin: WITHIN });
});
afterAll(async () => {
  await kv?.stop();
});

interface Sent {
  readonly socket: Socket;
  said(): string;
}

/** Sends the beginning of a request in JSON. */
function begin(path: string, body: string, at = address, localAddress = '127.0.0.1'): Sent {
  const [host, port] = at.split(':');
  const socket = connect({ host: host!, port: Number(port), localAddress });
  let said = '';
  socket
    .on('error', () => {})
    .on('data', (data: Buffer) => {
      said += data.toString();
    });
  const head = [`POST /v3${path} HTTP/1.1`, 'host: kv', 'content-length: 3000000'];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  return { socket, said: () => said };
}

/** A byte now and then, until it ends. */
function trickle({ socket }: Sent): void {
  const sending = setInterval(() => socket.write('A'), 50);
  socket.once('close', () => clearInterval(sending));
}

test.each<[string, string, string]>([
  ['a request of one object', '/kv/range', '{"key":"'],
  ['one that has its object, and no end', '/kv/range', `{"key":"${base64('a')}"}`],
  ['one that says nothing', '/kv/range', ''],
  ['an object of a stream', '/watch', '{"create_request":{"key":"'],
])('JSON: %s is waited for as long as a message may take', async (_, path, body) => {
  const sent = begin(path, body);
  if (body.endsWith('"')) trickle(sent);
  await expect.poll(sent.said, PATIENCE).toContain('no message came');
  expect(sent.said()).toContain('HTTP/1.1 504');
  await expect.poll(() => sent.socket.destroyed, PATIENCE).toBe(true);
});

test('gRPC: a message of a stream that stops half way ends it', async () => {
  const session = connectHttp2(`http://${address}`).on('error', () => {});
  const stream = session.request({
    ...{ ':method': 'POST', ':path': '/etcdserverpb.Watch/Watch', 'content-type': 'application/grpc' },
  });
  stream.on('error', () => {}).resume();
  stream.write(Buffer.from([0, 0, 0, 1, 0, 10]));
  let trailers = {};
  stream.once('trailers', (headers) => {
    trailers = headers;
  });
  const refused = { 'grpc-status': '4', 'grpc-message': 'no message came' };
  await expect.poll(() => trailers, PATIENCE).toMatchObject(refused);
  session.destroy();
});

test('a stream that has said all that it began may be silent for longer', async () => {
  const sent = begin('/watch', JSON.stringify({ create_request: { key: base64('seen') } }));
  await expect.poll(sent.said).toContain('"created":true');
  await new Promise((resolve) => setTimeout(resolve, 3 * WITHIN));
  const put = JSON.stringify({ key: base64('seen'), value: base64('late') });
  await fetch(`http://${address}/v3/kv/put`, { method: 'POST', body: put });
  await expect.poll(sent.said).toContain(base64('late'));
  sent.socket.destroy();
});

test('what one app begins and does not end leaves room for requests of another', async () => {
  const door = kv.running.door({
    callerOf: ({ remoteAddress }) => app(remoteAddress === HOG ? 'hog' : 'other'),
  });
  door.server.listen(0, '127.0.0.1');
  await once(door.server, 'listening');
  const at = `127.0.0.1:${(door.server.address() as AddressInfo).port}`;
  const held: Sent[] = [];
  // As much as it gets, to the last bytes.
  for (const size of [2_000_000, 200_000, 20_000, 2_000])
    for (let n = 0; n < (size === 2_000_000 ? 36 : 12); n += 1)
      held.push(begin('/kv/range', `{"key":"${'A'.repeat(size)}`, at, HOG));
  const refused = () => held.filter(({ said }) => said().includes('too many requests')).length;
  await expect.poll(refused, PATIENCE).toBeGreaterThan(3);
  const body = JSON.stringify({ key: base64('a'), value: base64('x'.repeat(1_000_000)) });
  const put = await fetch(`http://${at}/v3/kv/put`, { method: 'POST', body });
  expect(await put.text()).toContain('"revision"');
  expect(put.status).toBe(200);
  for (const { socket } of held) socket.destroy();
  await door.close(0);
});
