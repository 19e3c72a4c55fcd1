import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

const ask = (socket: string, route: string, body?: object): Promise<unknown> =>
  callUnix({
    path: join(root, 'run/dstack/kubernethes', socket),
    method: body === undefined ? 'GET' : 'POST',
    route,
    body,
    reply: Type.Unknown(),
    connectWithin: 20_000,
  }).catch((error: Error) => error.message);

test('the daemon answers its siblings at once, but touches nothing before the node has joined', async () => {
  for (const folder of ['run/dstack/replicator', 'usr/lib/dstack'])
    mkdirSync(join(root, folder), { recursive: true });
  const image = { version: 1, flavour: 'sim', builtAt: 1_800_000_000 };
  writeFileSync(join(root, 'usr/lib/dstack/flavour.json'), JSON.stringify(image));
  const network = {
    version: 1,
    chainId: 1,
    contract: `0x${'12'.repeat(20)}`,
    confirmation: { depth: 0 },
    endpoints: ['http://127.0.0.1:9'],
    quorum: 1,
  };
  writeFileSync(join(root, 'run/dstack/network.json'), JSON.stringify(network));
  daemon = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), '--root', root]);
  const log: string[] = [];
  createInterface(daemon.stdout!).on('line', (line) => log.push(line));

  expect(await ask('agent.sock', '/v1/containers')).toEqual({ containers: [], manifests: [] });
  expect(await ask('tls.sock', '/v1/upstream', {})).toEqual({
    turn: expect.stringMatching(/^[0-9a-f]{16}-1$/),
    website: { reason: 'the contract has not been read yet' },
    sites: [],
  });
  // Each socket has its own purpose and no other.
  expect(await ask('tls.sock', '/v1/containers')).toContain('nothing here answers');
  expect(await ask('agent.sock', '/v1/upstream')).toContain('nothing here answers');
  expect(await ask('replicator.sock', '/v1/apps')).toEqual({ now: 0, apps: [], more: 0, rollouts: [] });
  expect(await ask('replicator.sock', '/v1/containers')).toContain('nothing here answers');
  expect(await ask('signer.sock', '/v1/signer')).toMatchObject({ stopped: { code: 'CONTRACT_UNREAD' } });
  const secret = { manifest: 'ab'.repeat(32), name: 'validator' };
  expect(await ask('signer.sock', '/v1/signer-secret', secret)).toContain('no signer with a key');
  expect(await ask('signer.sock', '/v1/containers')).toContain('nothing here answers');
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
  const deadline = Date.now() + 120_000;
  while (log.length < 2 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(asked).toBe(1);
  expect(log[0]).toContain('the node has joined');
  // There is no podman here: the daemon waits for it, and says so.
  expect(log[1]).toContain('ENGINE_UNREACHABLE');

  // Whoever goes by what it said before it was killed does not hear that nothing runs.
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
  daemon = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), '--root', root]);
  const again = expect.stringContaining('not taken over yet');
  expect(await ask('tls.sock', '/v1/upstream', {})).toEqual(again);
  expect(await ask('agent.sock', '/v1/containers')).toEqual(again);
  expect(await ask('kv.sock', '/v1/containers')).toEqual(again);
});
