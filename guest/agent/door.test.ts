import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Door, Doors, openGateways } from './door.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-door-'));
const path = join(folder, 'sock');
const cleanups: (() => void)[] = [];
const warned: string[] = [];
let entered: Socket[] = [];
let listens = 0;
let problem: Error | undefined;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  entered = [];
  listens = 0;
});
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
  for (const socket of entered) socket.destroy();
  warned.length = 0;
  vi.useRealTimers();
  rmSync(path, { force: true });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const doors = () => new Doors({ warn: (_: object, text: string) => void warned.push(text) });

async function open(of = doors(), app = 'a', at = path): Promise<Door> {
  const door = await of.open({
    app: () => app,
    async listen(listener) {
      listens += 1;
      if (problem !== undefined) throw problem;
      listener.listen(at);
      await once(listener, 'listening');
    },
    enter: (socket) => {
      entered.push(socket);
      socket.on('error', () => {}).pipe(socket);
    },
    of: {},
  });
  cleanups.push(() => door.shut());
  return door;
}

/** Connects once, and says how that went, when it is seen by both. */
async function knock(at: NetConnectOpts = { path }): Promise<'taken' | 'refused'> {
  const socket = connect(at);
  cleanups.push(() => socket.destroy());
  return new Promise((resolve) => {
    socket
      .on('error', () => resolve('refused'))
      .on('close', () => resolve('refused'))
      .on('data', () => resolve('taken'))
      .on('connect', () => socket.write('x'));
  });
}
async function knocks(count: number, at?: NetConnectOpts): Promise<number> {
  let taken = 0;
  for (let one = 0; one < count; one += 1) if ((await knock(at)) === 'taken') taken += 1;
  return taken;
}

test('who connects again and again finds nobody for a moment, and is let in so often a second', async () => {
  await open();
  expect(await knocks(300)).toBe(128);
  const [first] = entered;
  await vi.advanceTimersByTimeAsync(39);
  expect(await knocks(3)).toBe(0);
  await vi.advanceTimersByTimeAsync(1);
  await expect.poll(() => existsSync(path)).toBe(true);
  // 256 in a second: ten in 40 ms.
  expect(await knocks(50)).toBe(10);
  // Who is in stays in.
  expect(first!.destroyed).toBe(false);
  expect(entered).toHaveLength(138);
});

test('who comes dozens of times a second is always let in', async () => {
  await open();
  let taken = 0;
  for (let tenth = 0; tenth < 30; tenth += 1) {
    taken += await knocks(20);
    await vi.advanceTimersByTimeAsync(100);
  }
  expect([taken, listens]).toEqual([600, 1]);
});

test('the doors of an app are counted together, and those of another by themselves', async () => {
  const all = doors();
  const [second, others] = [`${path}-second`, `${path}-others`];
  await open(all);
  await open(all, 'a', second);
  await open(all, 'b', others);
  expect(await knocks(100)).toBe(100);
  expect(await knocks(50, { path: second })).toBe(28);
  expect(await knocks(50, { path: others })).toBe(50);
  // Until somebody comes nobody needs to close it.
  expect(await knocks(5)).toBe(1);
});

test('is tried again where none can be made, and no more once it is shut', async () => {
  const door = await open();
  problem = new Error('no more files');
  await knocks(129);
  await vi.advanceTimersByTimeAsync(40);
  expect(warned).toEqual(['socket not opened again yet: no more files']);
  problem = undefined;
  await vi.advanceTimersByTimeAsync(1_000);
  await expect.poll(() => existsSync(path)).toBe(true);
  expect(await knock()).toBe('taken');
  await knocks(200);
  const before = listens;
  door.shut();
  await vi.advanceTimersByTimeAsync(10_000);
  expect([listens, await knock()]).toEqual([before, 'refused']);
});

test('each gateway has a door of its own, at one port, and time-outs are watched over', async () => {
  const server = createServer({ connectionsCheckingInterval: 1 }).on('connection', (socket) => {
    entered.push(socket);
    socket.write('x');
  });
  let watched = 0;
  server.on('listening', () => {
    watched += 1;
  });
  const { port, shut } = await openGateways(server, doors(), ['127.0.0.31', '127.0.0.32'], 0);
  cleanups.push(shut, () => server.close());
  const [one, other] = ['127.0.0.31', '127.0.0.32'].map((host) => ({ host, port }));
  expect([await knocks(150, one), await knock(other), watched]).toEqual([128, 'taken', 1]);
  await vi.advanceTimersByTimeAsync(40);
  await expect.poll(() => knock(one)).toBe('taken');
  shut();
  expect([await knock(one), await knock(other)]).toEqual(['refused', 'refused']);
});
