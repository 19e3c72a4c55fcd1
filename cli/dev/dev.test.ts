/** What ends in the middle leaves nothing behind: neither a process nor half a folder. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { freePort } from '../../test/support/free-port.ts';
import { AppProcesses } from './app-processes.ts';
import { createApp } from './create.ts';
import { startDev } from './dev.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-dev-test-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'done', codeOf);

test('what is being started again when all is stopped is not started any more', async () => {
  const folder = join(scratch, 'app');
  mkdirSync(join(folder, 'enclave'), { recursive: true });
  // Takes a while to end, and says who it is at each start.
  writeFileSync(
    join(folder, 'enclave/main.ts'),
    `import { appendFileSync } from 'node:fs';
process.on('SIGTERM', () => setTimeout(() => process.exit(0), 500));
appendFileSync(${JSON.stringify(join(folder, 'pids'))}, process.pid + '\\n');
setInterval(() => {}, 1000);`,
  );
  const pids = (): number[] => {
    try {
      return readFileSync(join(folder, 'pids'), 'utf8').trim().split('\n').map(Number);
    } catch {
      return [];
    }
  };
  const processes = new AppProcesses(folder);
  await processes.restart('enclave', process.env);
  await expect.poll(() => pids().length).toBe(1);
  const again = processes.restart('enclave', process.env);
  await processes.stop();
  // Also the one that somebody else had told to end.
  expect(() => process.kill(pids()[0]!, 0)).toThrow(/ESRCH/);
  await again;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(pids()).toHaveLength(1);
});

test('an app that is not made to its end leaves nothing in the way of the next time', async () => {
  const folder = join(scratch, 'apps');
  mkdirSync(folder);
  const stopped = new AbortController();
  const making = createApp(join(folder, 'mine'), 'mine', 'ping-pong', stopped.signal);
  setTimeout(() => stopped.abort(), 300);
  expect(await code(making)).toBe('INTERRUPTED');
  expect(readdirSync(folder)).toEqual([]);
});

test('what is there already is not made into an app', async () => {
  const { signal } = new AbortController();
  const file = join(scratch, 'file');
  writeFileSync(file, '');
  expect(await code(createApp(file, 'file', 'ping-pong', signal))).toBe('CREATE_FOLDER');
  mkdirSync(join(scratch, 'full/x'), { recursive: true });
  expect(await code(createApp(join(scratch, 'full'), 'full', 'ping-pong', signal))).toBe('CREATE_FOLDER');
});

test("a port that somebody else has is not taken for the enclave's", async () => {
  const port = await freePort();
  const other = createServer().listen(port, '127.0.0.1');
  try {
    expect(await code(startDev({ folder: scratch, app: 'mine', port }))).toBe('DEV_PORT');
  } finally {
    other.close();
  }
});
