/** What hosts ask apps, where the app is hostile: every answer that is none ends in a bounded time, by a code, and holds up no other app. */
import { once } from 'node:events';
import { createServer, type Server as HttpServer } from 'node:http';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { APP_CALL_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import { AppRequests } from './app-requests.ts';

const servers: (Server | HttpServer)[] = [];
const sockets: Socket[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

async function listening(server: Server | HttpServer): Promise<{ host: string; port: number }> {
  servers.push(server);
  server.on('connection', (socket: Socket) => sockets.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

/** An app that says these bytes to whatever it is asked, and no more. */
const saying = (text: string | Buffer, isOver = true) =>
  listening(
    createTcp((socket) => {
      socket.once('data', () => (isOver ? socket.end(text) : socket.write(text)));
    }),
  );
const head = (status: number, length: number) => `HTTP/1.1 ${status} X\r\ncontent-length: ${length}\r\n\r\n`;

test('the app gets the path and the JSON, and of the host nothing else', async () => {
  let got: unknown;
  const place = await listening(
    createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      got = { method: request.method, url: request.url, headers: request.rawHeaders, body };
      response.writeHead(409, { 'set-cookie': 'a=b' }).end('{"code":"A","message":"b"}');
    }),
  );
  const reply = await new AppRequests(() => place).ask('auction', '/v1/answer', { 'x\r\n': '\r\n\r\nGET /' });
  expect(reply).toEqual({ status: 409, value: { code: 'A', message: 'b' } });
  const body = '{"x\\r\\n":"\\r\\n\\r\\nGET /"}';
  expect(got).toEqual({
    ...{ method: 'POST', url: '/v1/answer', body },
    headers: [
      ...['host', 'localhost', 'content-type', 'application/json'],
      ...['content-length', String(body.length), 'connection', 'close'],
    ],
  });
});

test.each([
  ['what is no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', 'APP_UNREACHABLE'],
  ['nothing', '', 'APP_UNREACHABLE'],
  ['no JSON', `${head(200, 5)}<html`, 'APP_REPLY'],
  ['a body that is cut off', `${head(200, 50)}{}`, 'APP_UNREACHABLE'],
  ['too much', `${head(200, APP_CALL_MAX_BYTES + 2)}"${' '.repeat(APP_CALL_MAX_BYTES)}"`, 'APP_REPLY'],
  ['JSON of too many levels', `${head(200, 202)}${'['.repeat(101)}${']'.repeat(101)}`, 'APP_REPLY'],
  ['what grows', `${head(200, 500_001)}[${Array(100_000).fill('1e20').join()}]`, 'APP_REPLY'],
  ['a status that is none', `${head(700, 2)}{}`, 'APP_REPLY'],
  [
    'both lengths',
    'HTTP/1.1 200 X\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}',
    'APP_UNREACHABLE',
  ],
  ['another protocol', 'HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n', 'APP_REPLY'],
  ['interim responses without end', 'HTTP/1.1 103 X\r\n\r\n'.repeat(1000), 'APP_REPLY'],
  [
    'headers without end',
    `HTTP/1.1 200 X\r\n${`a: ${'x'.repeat(1000)}\r\n`.repeat(100)}\r\n`,
    'APP_UNREACHABLE',
  ],
])('an app that answers %s', async (_, text, code) => {
  const place = await saying(text);
  const asked = new AppRequests(() => place, 5_000).ask('auction', '/v1/answer', {});
  const never = new Promise((resolve) => setTimeout(resolve, 8_000, 'nothing'));
  expect(await Promise.race([never, asked.then(() => 'an answer', codeOf)])).toBe(code);
});

test.each([
  ['at all', ''],
  ['more than its head', head(200, 5)],
  ['all of its body', `${head(200, 5)}{`],
])('an app that does not answer %s is given up', async (_, text) => {
  const place = await saying(text, false);
  await expect(new AppRequests(() => place, 200).ask('auction', '/v1/answer', {})).rejects.toMatchObject({
    code: 'APP_OVERDUE',
  });
});

test('an app that is asked without end has four requests under way, and others still have theirs', async () => {
  const slow = await saying('', false);
  const quick = await saying(`${head(200, 2)}{}`);
  const requests = new AppRequests((app) => (app === 'quick' ? quick : slow), 1_000);
  const flood = Array.from({ length: 200 }, (_, n) =>
    requests.ask(`slow-${n % 2}`, '/v1/answer', {}).catch((error: unknown) => (error as DstackError).code),
  );
  for (let n = 0; n < 20; n += 1)
    expect(await requests.ask('quick', '/v1/answer', {}).catch(codeOf)).toEqual({ status: 200, value: {} });
  const codes = await Promise.all(flood);
  expect(codes.filter((code) => code === 'APP_OVERDUE')).toHaveLength(8);
  expect(codes.filter((code) => code === 'APP_BUSY')).toHaveLength(192);
  // Nothing of it is left over.
  const again = Array.from({ length: 4 }, () =>
    requests.ask('slow-0', '/v1/answer', {}).catch((error) => error.code),
  );
  expect(await Promise.all(again)).toEqual(Array.from({ length: 4 }, () => 'APP_OVERDUE'));
});

test('all apps together have sixteen, and each app its first', async () => {
  const slow = await saying('', false);
  const quick = await saying(`${head(200, 2)}{}`);
  const requests = new AppRequests((app) => (app === 'quick' ? quick : slow), 1_000);
  const ask = (app: string) =>
    requests.ask(app, '/v1/answer', {}).catch((error: unknown) => (error as DstackError).code);
  const all = Array.from({ length: 20 }, (_, n) => ask(`app-${n % 5}`));
  // Five apps that do not answer have all there is; one that does is still asked.
  expect(await ask('quick')).toEqual({ status: 200, value: {} });
  const codes = await Promise.all(all);
  expect(codes.filter((code) => code === 'APP_OVERDUE')).toHaveLength(16);
  expect(codes.filter((code) => code === 'APP_BUSY')).toHaveLength(4);
});

test('why there is none to ask is said by its code', async () => {
  const requests = new AppRequests(() => {
    throw new DstackError('APP_UNKNOWN', 'this node runs no such app');
  });
  await expect(requests.ask('none', '/v1/answer', {})).rejects.toMatchObject({ code: 'APP_UNKNOWN' });
});
