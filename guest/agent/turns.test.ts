import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PacedSocket } from './paced-socket.ts';
import { Turns } from './turns.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] }));
afterEach(() => void vi.useRealTimers());

test('an app has a fifth of the time, whatever it asks for, and another does not wait for it', async () => {
  const turns = new Turns();
  const done: string[] = [];
  const doing = (app: string, milliseconds: number) =>
    turns.inTurn(app, async () => {
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      done.push(`${app} ${performance.now() - began}`);
    });
  const began = performance.now();
  const all = [doing('a', 100), doing('a', 10), doing('a', 5_000), doing('a', 1)];
  await vi.advanceTimersByTimeAsync(50);
  all.push(doing('b', 20));
  await vi.advanceTimersByTimeAsync(10_000);
  await Promise.all(all);
  // After a very long thing it is not five times as long: it may have been waiting itself.
  expect(done).toEqual(['b 70', 'a 100', 'a 510', 'a 5550', 'a 5951']);
});

test('many short things are a long one', async () => {
  const turns = new Turns();
  // A tenth of a millisecond each, which a clock of its own tells: a timer could not.
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  let done = 0;
  const all = Array.from({ length: 9 }, () =>
    turns.inTurn('a', () => {
      clock += 0.1;
      done += 1;
    }),
  );
  const doneBefore = [];
  while (done < 9) {
    for (let loop = 0; loop < 50; loop += 1) await new Promise((resolve) => setImmediate(resolve));
    doneBefore.push(done);
    await vi.advanceTimersByTimeAsync(2);
  }
  await Promise.all(all);
  // Each rests for 0.4 ms, and three of them for more than the millisecond of a timer.
  expect(doneBefore).toEqual([3, 6, 9]);
});

test('what something leads to at once counts with it, as an answer that is written', async () => {
  const turns = new Turns();
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  await turns.inTurn('a', () => {});
  // What happens now is its outcome.
  clock += 100;
  let isDone = false;
  const next = turns.inTurn('a', () => {
    isDone = true;
  });
  await vi.advanceTimersByTimeAsync(399);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isDone).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await next;
});

test('what fails ends its turn', async () => {
  const turns = new Turns();
  await expect(
    turns.inTurn('a', () => {
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  expect(await turns.inTurn('a', () => 'yes')).toBe('yes');
});

test('a connection gives two kilobytes in a turn, and all of them in the end', async () => {
  vi.useRealTimers();
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as { port: number };
  const client = connect({ port, host: '127.0.0.1' });
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const turns: (() => void)[] = [];
  const from = { app: 'a', origin: { remote: '', local: '' } };
  const paced = new PacedSocket(socket, from, async (action) => void turns.push(action));
  const sent = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));
  const got: Buffer[] = [];
  let isEnded = false;
  paced
    .on('data', (slice: Buffer) => got.push(slice))
    .on('end', () => {
      isEnded = true;
    });
  client.end(sent);
  while (!isEnded) {
    const before = got.length;
    await expect.poll(() => turns.length > 0 || isEnded).toBe(true);
    // There is one for the whole connection.
    expect(turns.length).toBeLessThanOrEqual(1);
    expect(got.length).toBe(before);
    turns.shift()?.();
  }
  expect(Math.max(...got.map(({ length }) => length))).toBeLessThanOrEqual(2048);
  expect(Buffer.concat(got).equals(sent)).toBe(true);
  const answered = once(client, 'data');
  paced.write('yes');
  expect(`${(await answered)[0]}`).toBe('yes');
  paced.destroySoon();
  await once(client, 'close');
  listener.close();
});

test.each(['closed', 'ended'])('a connection that is %s asks for no more turns', async (how) => {
  vi.useRealTimers();
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as { port: number };
  const client = connect({ port, host: '127.0.0.1' });
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const turns: (() => void)[] = [];
  const from = { app: 'a', origin: { remote: '', local: '' } };
  const paced = new PacedSocket(socket, from, async (action) => void turns.push(action));
  let got = 0;
  paced.on('data', ({ length }: Buffer) => {
    got += length;
  });
  client.write(Buffer.alloc(30_000));
  await expect.poll(() => turns.length).toBe(1);
  turns.shift()!();
  await expect.poll(() => turns.length).toBe(1);
  if (how === 'closed') paced.destroy();
  else paced.end();
  turns.shift()!();
  await new Promise((resolve) => setImmediate(resolve));
  expect([turns.length, got]).toEqual([0, 2048]);
  paced.destroy();
  client.destroy();
  listener.close();
});

test('whatever comes at once, a turn gives one request, and the next when that is answered', async () => {
  vi.useRealTimers();
  const start = (method: string, id: number) => `${method} /${id} HTTP/1.1\r\nHost: a\r\n`;
  const body = fc.string({
    unit: fc.constantFrom('\r', '\n', '\r\n\r\n', '0', 'GET / HTTP/1.1\r\n'),
    maxLength: 40,
  });
  const request = fc.oneof(
    fc.constant((id: number) => `${start('GET', id)}\r\n`),
    // Empty lines before a request are passed over (RFC 9112, section 2.2).
    fc.constant((id: number) => `\r\n\r\n\r\n${start('GET', id)}\r\n`),
    body.map(
      (given) => (id: number) => `${start('POST', id)}Content-Length: ${given.length}\r\n\r\n${given}`,
    ),
    fc
      .tuple(fc.array(body), fc.constantFrom('', 'A: b\r\nC: d\r\n'))
      .map(([chunks, trailers]) => (id: number) => {
        const sized = chunks
          .filter((chunk) => chunk !== '')
          .map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`);
        return `${start('POST', id)}Transfer-Encoding: chunked\r\n\r\n${sized.join('')}0\r\n${trailers}\r\n`;
      }),
  );
  const pauses = fc.array(fc.nat(200), { maxLength: 5 });
  const many = fc.array(request, { minLength: 2, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(many, pauses, async (requests, lengths) => {
      const begun: string[] = [];
      let inThisTurn = 0;
      let most = 0;
      const underWay: ServerResponse[] = [];
      const paceds: PacedSocket[] = [];
      const http = createHttpServer((asked: IncomingMessage, response) => {
        begun.push(asked.url!);
        inThisTurn += 1;
        underWay.push(response);
        most = Math.max(most, inThisTurn, underWay.length);
        const [paced] = paceds as [PacedSocket];
        paced.asks(asked);
        response.once('close', () => paced.answered());
        const answer = () => {
          underWay.shift();
          response.end(asked.url);
        };
        // Some are answered before their body is there.
        if (Number(asked.url!.slice(1)) % 3 === 0) setImmediate(answer);
        else asked.on('end', () => setImmediate(answer));
        asked.resume();
      });
      const inTurn = async (action: () => void) => {
        await new Promise((resolve) => setImmediate(resolve));
        inThisTurn = 0;
        action();
      };
      const listener = createServer({ allowHalfOpen: true }, (socket) => {
        const paced = new PacedSocket(socket, { app: 'a', origin: { remote: '', local: '' } }, inTurn);
        paceds.push(paced);
        http.emit('connection', paced);
      }).listen(0, '127.0.0.1');
      await once(listener, 'listening');
      const { port } = listener.address() as { port: number };
      const client = connect({ port, host: '127.0.0.1', noDelay: true });
      const answers = text(client);
      const last = `${start('GET', requests.length)}Connection: close\r\n\r\n`;
      let rest = requests.map((make, id) => make(id)).join('') + last;
      for (const length of lengths) {
        client.write(rest.slice(0, length));
        rest = rest.slice(length);
        await new Promise((resolve) => setImmediate(resolve));
      }
      client.write(rest);
      const ids = Array.from({ length: requests.length + 1 }, (_, id) => `/${id}`);
      const answered = (await answers).match(/(?<=\r\n\r\n)\/\d+/g);
      listener.close();
      expect(begun).toEqual(ids);
      expect(answered).toEqual(ids);
      expect(most).toBe(1);
    }),
    { numRuns: 30 },
  );
}, 300_000);
