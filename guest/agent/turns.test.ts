import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PacedSocket } from './paced-socket.ts';
import { SharedTime } from './shared-time.ts';
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
  // Each rests for 0.8 ms, a tenth of a millisecond being added to its own, so two for more than the one that a timer can tell; and no part is lost.
  expect(doneBefore).toEqual([2, 4, 7]);
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

/** Until all has happened that waits for no timer. */
const settled = async () => {
  for (let loop = 0; loop < 5; loop += 1) await new Promise((resolve) => setImmediate(resolve));
};

test('an app does not rest for what is done for others while it waits', async () => {
  const time = new SharedTime();
  const [doing, reading] = [new Turns(time.together), new Turns(time.alone)];
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  const { promise, resolve: answer } = Promise.withResolvers<void>();
  const first = doing.inTurn('a', () => promise);
  let isDone = false;
  const next = doing.inTurn('a', () => {
    isDone = true;
  });
  await settled();
  clock += 4;
  void reading.inTurn('b', () => {
    clock += 90;
  });
  await settled();
  clock += 6;
  answer();
  await first;
  await settled();
  // After 100 milliseconds, of which ten were its own.
  await vi.advanceTimersByTimeAsync(39);
  await settled();
  expect(isDone).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await settled();
  expect(isDone).toBe(true);
  await next;
});

test('apps that wait at once have equal parts of the time', () => {
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  const { together, alone } = new SharedTime();
  const a = together();
  clock += 10;
  const b = together();
  clock += 10;
  const c = alone();
  clock += 100;
  expect(c()).toBe(100);
  clock += 10;
  expect(a()).toBe(10 + 5 + 5);
  clock += 10;
  expect(b()).toBe(5 + 5 + 10);
});

test('an app that is to rest does so after what is next, once', async () => {
  const turns = new Turns();
  turns.restAtLeast('a', 400);
  turns.restAtLeast('a', 300);
  const done: string[] = [];
  const doing = (app: string) => turns.inTurn(app, () => void done.push(app));
  const all = [doing('a'), doing('a'), doing('a'), doing('b'), doing('b')];
  await settled();
  expect(done).toEqual(['a', 'b', 'b']);
  await vi.advanceTimersByTimeAsync(399);
  await settled();
  expect(done).toHaveLength(3);
  await vi.advanceTimersByTimeAsync(10);
  await settled();
  await Promise.all(all);
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

/** A server of HTTP behind a paced connection, whose turns are taken by the test. */
async function pacedHttp(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const http = createHttpServer((request, response) => {
    paced.asks(request);
    response.once('close', () => paced.answered());
    answer(request, response);
  });
  const listener = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const client = connect({ port: (listener.address() as { port: number }).port, host: '127.0.0.1' });
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const turns: (() => void)[] = [];
  const from = { app: 'a', origin: { remote: '', local: '' } };
  const paced = new PacedSocket(socket, from, async (action) => void turns.push(action));
  http.emit('connection', paced);
  listener.close();
  return { client: client.on('error', () => {}), socket, paced, turns };
}

test('a body of a known length takes few turns', async () => {
  vi.useRealTimers();
  const { client, turns } = await pacedHttp((request, response) => {
    request.resume().on('end', () => response.end('read'));
  });
  const answer = once(client, 'data');
  const length = 64 * 1024;
  client.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`);
  client.write('x'.repeat(length));
  let isAnswered = false;
  void answer.then(() => {
    isAnswered = true;
  });
  let taken = 0;
  while (!isAnswered) {
    await expect.poll(() => turns.length > 0 || isAnswered, { interval: 1 }).toBe(true);
    if (turns.length > 0) taken += 1;
    turns.shift()?.();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  // Of two kilobytes each it would be 32 at least.
  expect(taken).toBeLessThan(16);
  client.destroy();
});

test('what still comes after the last answer is dropped unparsed, a mebibyte of it, and the answer is not lost', async () => {
  vi.useRealTimers();
  const { client, socket, paced, turns } = await pacedHttp((_, response) => {
    response.writeHead(413, { connection: 'close' }).end('too large');
  });
  let parsed = 0;
  paced.on('data', ({ length }: Buffer) => {
    parsed += length;
  });
  const answer = text(client).catch(() => 'lost');
  client.write(`POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const chunks = Buffer.from('1\r\n \r\n'.repeat(2_000_000));
  client.write(chunks);
  while (!socket.destroyed) {
    await expect.poll(() => turns.length > 0 || socket.destroyed, { interval: 1 }).toBe(true);
    turns.shift()?.();
  }
  expect(await answer).toContain('too large');
  expect(parsed).toBeLessThan(10_000);
  expect(socket.bytesRead).toBeGreaterThan(2 ** 20);
  expect(socket.bytesRead).toBeLessThan(3 * 2 ** 20);
  client.destroy();
});

test('who sends no more after the last answer, and does not close, is waited for two seconds', async () => {
  const { client, socket, turns } = await pacedHttp((_, response) => {
    response.writeHead(413, { connection: 'close' }).end('too large');
  });
  const ended = once(client, 'end');
  client.allowHalfOpen = true;
  client.resume().write(`POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
  await once(socket, 'readable');
  await settled();
  turns.shift()!();
  await ended;
  await settled();
  await vi.advanceTimersByTimeAsync(1_999);
  expect(socket.destroyed).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(socket.destroyed).toBe(true);
  client.destroy();
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
