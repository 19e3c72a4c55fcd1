/** Who is asked by HTTP and gives no answer: each caller is told so, and none waits for ever. */
import { once } from 'node:events';
import { request } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { messageOf } from '../protocol/errors.ts';
import { answerTo } from './http-answer.ts';

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** Says these bytes to whatever it is asked, and no more. */
async function saying(text: string): Promise<string> {
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    socket.once('data', () => socket.write(text));
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const OTHER_PROTOCOL = 'HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n';
const INTERIM = 'HTTP/1.1 103 X\r\n\r\n'.repeat(1000);
/** Longer than any of the calls may take. */
const never = (): Promise<string> => new Promise((resolve) => setTimeout(resolve, 6_000, 'nothing'));

test.each([
  ['another protocol', OTHER_PROTOCOL],
  ['interim responses without end', INTERIM],
])('what is no answer, as %s, ends in an error', async (why, text) => {
  const url = await saying(text);
  const ask = () => {
    const asked = request(url, { agent: false, signal: AbortSignal.timeout(3_000) });
    const answer = answerTo(asked);
    asked.end();
    return answer.then(() => 'an answer', messageOf);
  };
  expect(await Promise.race([ask(), never()])).toBe(why);
});

test('interim responses may come before an answer', async () => {
  const url = await saying(`${'HTTP/1.1 103 X\r\n\r\n'.repeat(8)}HTTP/1.1 204 X\r\n\r\n`);
  const asked = request(url, { agent: false });
  const answer = answerTo(asked);
  asked.end();
  expect((await answer).statusCode).toBe(204);
});
