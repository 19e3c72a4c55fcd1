import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { type ContainerPlan, plansOf } from '../../lib/protocol/manifest.ts';
import type { DiskStatusReply } from '../../lib/protocol/sockets.ts';
import { storage } from './storage.ts';

let folder: string;
let servers: Server[];
let status: DiskStatusReply;
let asked: unknown[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-storage-'));
  status = { state: 'ready' };
  asked = [];
  servers = [
    await serveUnix({ path: join(folder, 'status.sock'), routes: { 'GET /v1/status': () => status } }),
    await serveUnix({
      path: join(folder, 'folders.sock'),
      routes: {
        'POST /v1/folder': (body) => {
          asked.push(body);
          return { folder: `/folder/${asked.length}` };
        },
      },
    }),
  ];
});
afterEach(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

const planOf = (fields: object): ContainerPlan =>
  plansOf({
    version: 2,
    app: 'shop',
    containers: [{ name: 'db', image: `sha256:${'ab'.repeat(32)}`, ...fields }],
  })[0]!;
const storageOf = (fields: object) =>
  storage({
    diskStatus: join(folder, 'status.sock'),
    diskFolders: join(folder, 'folders.sock'),
    hostVolume: folder,
  })('shop', planOf(fields));

test('asks for what the container asks for, and for nothing else', async () => {
  status = { state: 'opening' };
  expect(await storageOf({})).toEqual({ volumes: {} });
  status = { state: 'ready' };
  expect(await storageOf({ data: 'ro', volumes: { '/db': 5 } })).toEqual({
    data: '/folder/2',
    volumes: { '/db': '/folder/1' },
  });
  expect(asked).toEqual([
    { app: 'shop', volume: { container: 'db', path: '/db', mebibytes: 5 } },
    { app: 'shop' },
  ]);
});

test('waits for the disk; without one the app has no folder, and a volume is refused', async () => {
  status = { state: 'formatting' };
  await expect(storageOf({ data: 'rw' })).rejects.toMatchObject({ code: 'DISK_NOT_READY' });
  status = { state: 'absent' };
  expect(await storageOf({ data: 'rw' })).toEqual({ volumes: {} });
  await expect(storageOf({ volumes: { '/db': 5 } })).rejects.toMatchObject({ code: 'DISK_ABSENT' });
  expect(asked).toEqual([]);
});

test('of the host volume, an app gets the folder of its name, which is no link and no file', async () => {
  mkdirSync(join(folder, 'apps'));
  const refused = { code: 'HOST_FOLDER' };
  await expect(storageOf({ hostVolume: 'ro' })).rejects.toMatchObject(refused);
  symlinkSync('..', join(folder, 'apps/shop'));
  await expect(storageOf({ hostVolume: 'ro' })).rejects.toMatchObject(refused);
  rmSync(join(folder, 'apps/shop'));
  writeFileSync(join(folder, 'apps/shop'), '');
  await expect(storageOf({ hostVolume: 'ro' })).rejects.toMatchObject(refused);
  rmSync(join(folder, 'apps/shop'));
  mkdirSync(join(folder, 'apps/shop'));
  expect(await storageOf({ hostVolume: 'ro' })).toEqual({
    volumes: {},
    hostVolume: join(folder, 'apps/shop'),
  });
});
