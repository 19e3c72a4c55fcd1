import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { afterAll, expect, test } from 'vitest';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

const root = mkdtempSync(join(tmpdir(), 'dstack-tls-'));
const servers: Server[] = [];
let daemon: ChildProcess;

afterAll(() => {
  daemon.kill();
  for (const server of servers) server.close();
  rmSync(root, { recursive: true });
});

/** The daemon's log lines, and what a visitor sees at a port. */
async function* lines(): AsyncGenerator<Record<string, unknown>> {
  for await (const line of createInterface(daemon.stdout!)) yield JSON.parse(line) as Record<string, unknown>;
}

const visit = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, rejectUnauthorized: false, agent: false }, (response) => {
      text(response).then((body) => resolve(`${response.statusCode} ${body}`), reject);
    })
      .on('error', reject)
      .end();
  });

test("the daemon listens only once it has the network's key, and says why there is no app", async () => {
  for (const folder of ['run/dstack/replicator', 'run/dstack/kubernethes', 'usr/lib/dstack']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  const network = {
    version: 1,
    chainId: 31337,
    contract: `0x${'c0'.repeat(20)}`,
    confirmation: { depth: 0 },
    endpoints: ['http://127.0.0.1:1'],
    quorum: 1,
  };
  writeFileSync(join(root, 'run/dstack/network.json'), JSON.stringify(network));
  const builtAt = Math.floor(Date.now() / 1000);
  writeFileSync(
    join(root, 'usr/lib/dstack/flavour.json'),
    JSON.stringify({ version: 1, flavour: 'sim', builtAt }),
  );
  daemon = spawn(process.execPath, [
    join(import.meta.dirname, 'main.ts'),
    '--root',
    root,
    '--listen',
    '127.0.0.1:0',
  ]);
  const log = lines();

  // The replicator's socket appears late, and holds the answer back until the node has joined.
  let release: () => void = () => {};
  const joined = new Promise<void>((resolve) => {
    release = resolve;
  });
  const key = '77'.repeat(32);
  servers.push(
    await serveUnix({
      path: join(root, 'run/dstack/replicator/tls.sock'),
      routes: { 'GET /v1/tls-key': () => joined.then(() => ({ epoch: 4, privateKey: key })) },
    }),
    await serveUnix({
      path: join(root, 'run/dstack/kubernethes/tls.sock'),
      routes: {
        'GET /v1/upstream': () => {
          throw new DstackError('NOT_READY', 'greeting: ARCHIVE_MISSING');
        },
      },
    }),
  );
  const listening = log.next();
  const early = await Promise.race([
    listening,
    new Promise((resolve) => setTimeout(resolve, 1500, 'silent')),
  ]);
  expect(early).toBe('silent');
  release();
  const { value } = await listening;
  expect(value).toMatchObject({ msg: 'listening', epoch: 4 });
  expect(JSON.stringify(value)).not.toContain(key);
  const { port } = value!.address as { port: number };
  expect(await visit(port)).toMatch(/^503 [\s\S]*greeting: ARCHIVE_MISSING/);
});
