import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
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
  expect(done).toEqual(['b 70', 'a 100', 'a 510', 'a 5550', 'a 6551']);
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
