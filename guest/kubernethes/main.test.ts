import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Type } from 'typebox';
import { afterAll, expect, test } from 'vitest';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';

const root = mkdtempSync(join(tmpdir(), 'dstack-kube-'));
const servers: Server[] = [];
let daemon: ChildProcess;

afterAll(() => {
  daemon.kill();
  for (const server of servers) server.close();
  rmSync(root, { recursive: true });
});

const ask = (socket: string, route: string): Promise<unknown> =>
  callUnix({
    path: join(root, 'run/dstack/kubernethes', socket),
    method: 'GET',
    route,
    reply: Type.Unknown(),
    connectWithin: 20_000,
  }).catch((error: Error) => error.message);

test('the daemon answers its siblings at once, but touches nothing before the node has joined', async () => {
  mkdirSync(join(root, 'run/dstack/replicator'), { recursive: true });
  daemon = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), '--root', root]);
  const log: string[] = [];
  createInterface(daemon.stdout!).on('line', (line) => log.push(line));

  expect(await ask('agent.sock', '/v1/containers')).toEqual({ containers: [] });
  expect(await ask('tls.sock', '/v1/upstream')).toBe('the contract has not been read yet');
  // Each socket has its own purpose and no other.
  expect(await ask('tls.sock', '/v1/containers')).toContain('nothing here answers');
  expect(await ask('agent.sock', '/v1/upstream')).toContain('nothing here answers');
  expect(log).toEqual([]);

  let asked = 0;
  servers.push(
    await serveUnix({
      path: join(root, 'run/dstack/replicator/kubernethes.sock'),
      routes: {
        'GET /v1/status': () => {
          asked += 1;
          return {
            joined: true,
            epoch: 3,
            reached: { block: 7, timestamp: 1_800_000_000, now: 1_800_000_009 },
          };
        },
      },
    }),
  );
  const deadline = Date.now() + 20_000;
  while (log.length < 2 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(asked).toBe(1);
  expect(log[0]).toContain('the node has joined');
  // There is no podman here: the daemon waits for it, and says so.
  expect(log[1]).toContain('ENGINE_UNREACHABLE');
});
