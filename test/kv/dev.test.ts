/** `npx dstack kv start --dev`, as people run it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { dstack } from '../support/cli.ts';
import { freePort } from '../support/free-port.ts';
import { node24 } from '../support/network.ts';

const root = join(import.meta.dirname, '../..');
const run = promisify(execFile);

// Each start is three processes of Node's and one of etcd's.
vi.setConfig({ testTimeout: 180_000 });

let folder: string;
let data: string;
let address: string;
const started: ChildProcess[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  data = join(folder, 'data');
  address = `127.0.0.1:${await freePort()}`;
});
afterAll(async () => {
  for (const child of started.filter(
    ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
  )) {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

interface Store {
  readonly child: ChildProcess;
  /** Resolves with what it said and how it ended. */
  readonly ended: Promise<{ code: number | null; said: string }>;
}

/** Runs the command and resolves once it listens or has ended. */
async function start(...options: string[]): Promise<Store> {
  const listen = options.some((option) => option.startsWith('--listen')) ? [] : ['--listen', address];
  const where = options.includes('--data') ? [] : ['--data', data];
  const args = ['cli/dstack.mjs', 'kv', 'start', ...where, ...listen, ...options];
  const child = spawn(node24, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  started.push(child);
  let said = '';
  const listens = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.includes('kv listens at')) resolve();
      });
  });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, said }));
  await Promise.race([listens, ended]);
  return { child, ended };
}

const etcdctl = async (...args: string[]): Promise<string> =>
  (
    await run(join(root, 'scripts/etcdctl.sh'), args, {
      env: { ...process.env, KV_DATA: data, KV_ENDPOINT: `https://${address}` },
    })
  ).stdout;

/** The store itself, below the command that started it. */
function pidOfStore(parent: number): number | undefined {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim();
  for (const pid of children.split(' ').filter(Boolean).map(Number)) {
    const isIt = readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('guest/kv/dev/main.ts');
    const found = isIt ? pid : pidOfStore(pid);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Ctrl-C of one process, which may have ended already. */
function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGINT');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

describe('a store on a laptop', () => {
  test('says that it is for development, and has to be told so', async () => {
    const refused = await (await start()).ended;
    expect([refused.code, refused.said]).toEqual([2, expect.stringContaining('--dev')]);
    const store = await start('--dev');
    expect(await etcdctl('put', 'kept', 'yes')).toBe('OK\n');
    store.child.kill('SIGTERM');
    const { code, said } = await store.ended;
    expect(code).toBe(0);
    expect(said).toContain('A store for development');
  });

  test('keeps its secret and keys to its owner, and what was written, though it was killed', async () => {
    for (const file of ['secret', 'certs/user0_privk.pem', 'certs/service_privk.pem'])
      expect(statSync(join(data, file)).mode & 0o077).toBe(0);
    const first = await start('--dev');
    expect(await etcdctl('get', 'kept')).toBe('kept\nyes\n');
    await etcdctl('put', 'kept', 'still');
    // Its etcd goes on by itself; the next store ends it.
    process.kill(pidOfStore(first.child.pid!)!, 'SIGKILL');
    await first.ended;
    const second = await start('--dev');
    expect(await etcdctl('get', 'kept')).toBe('kept\nstill\n');
    second.child.kill('SIGTERM');
    expect((await second.ended).code).toBe(0);
  });

  test('lets nobody in without a certificate of its own', async () => {
    const store = await start('--dev');
    const curl = (...args: string[]) =>
      run('curl', [
        '-sS',
        '--cacert',
        join(data, 'certs/authority_cert.pem'),
        ...args,
        `https://${address}/health`,
      ]);
    const user = ['--cert', join(data, 'certs/user0_cert.pem'), '--key', join(data, 'certs/user0_privk.pem')];
    expect((await curl(...user)).stdout).toBe('{"health":"true","reason":""}');
    await expect(curl()).rejects.toThrow();
    await expect(curl('--http1.1')).rejects.toThrow();
    store.child.kill('SIGTERM');
    await store.ended;
  });

  test('does not start with the secret of another', async () => {
    const secret = readFileSync(join(data, 'secret'), 'utf8');
    writeFileSync(join(data, 'secret'), 'ab'.repeat(32));
    const { code, said } = await (await start('--dev')).ended;
    expect([code, said]).toEqual([1, expect.stringContaining('LEDGER_MISMATCH')]);
    writeFileSync(join(data, 'secret'), secret);
    const store = await start('--dev');
    expect(await etcdctl('get', 'kept')).toBe('kept\nstill\n');
    store.child.kill('SIGTERM');
    await store.ended;
  });

  test('a second one is kept from its folder, and it goes on', async () => {
    const store = await start('--dev');
    const { code, said } = await (await start('--dev', '--listen=127.0.0.1:0')).ended;
    expect([code, said]).toEqual([1, expect.stringContaining('KV_RUNNING')]);
    expect(await etcdctl('get', 'kept')).toBe('kept\nstill\n');
    // Nor is anything made for one whose port is taken.
    const other = join(folder, 'other');
    const taken = await (await start('--dev', '--data', other, '--listen', address)).ended;
    expect([taken.code, taken.said]).toEqual([1, expect.stringMatching(/^kv: KV_LISTEN: .*\n$/)]);
    expect(existsSync(other)).toBe(false);
    // Ctrl-C reaches all of its processes, and may be pressed by somebody without patience.
    const pids = [store.child.pid!, pidOfStore(store.child.pid!)!];
    for (let times = 0; times < 3; times++) for (const pid of pids) signal(pid);
    expect((await store.ended).code).toBe(0);
    expect(existsSync(join(data, 'etcd.pid'))).toBe(false);
  });

  test.each([
    ['without TLS for all', ['--dev', '--plain', '--listen=0.0.0.0:0'], 2, /KV_PLAIN/],
    ['one certificate', ['--dev', '--cert-file=x.pem'], 2, /KV_CERTIFICATE/],
    ['no address', ['--dev', '--listen=here'], 2, /KV_LISTEN/],
    ['a port that is none', ['--dev', '--listen=127.0.0.1:99999'], 2, /KV_LISTEN/],
    ['no etcd', ['--dev', '--etcd=/nonexistent'], 1, /KV_ETCD_ENDED.*\n.*ENOENT/],
    ['another program', ['--dev', '--etcd=/bin/true'], 1, /KV_ETCD_ENDED/],
    ['a name of nobody', ['--dev', '--listen=nobody.invalid:0'], 1, /KV_LISTEN/],
  ])('%s: refused, in a line', async (_, options, wantedCode, wanted) => {
    const { code, said } = await (await start(...options)).ended;
    expect([code, said]).toEqual([wantedCode, expect.stringMatching(wanted)]);
    expect(said).not.toMatch(/\n +at |node:internal/);
  });

  test.each([
    ['in /proc', '/proc/dstack-kv', /ENOENT/],
    ['a file', import.meta.filename, /FOLDER/],
    ['others’ things', import.meta.dirname, /KV_DATA/],
  ])('a folder that is none for a store: %s', async (_, where, wanted) => {
    const { code, said } = await (await start('--dev', '--data', where)).ended;
    expect([code, said]).toEqual([1, expect.stringMatching(wanted)]);
  });
});

/** Of a key that nobody has any more. */
const recipient = 'age1289kjmj2sjyw3zty8xpea3jq8rljcapa5yuxpf20uwldvfs2jvrq2dvng4';

describe('backup and restore, mistyped', () => {
  const none = '/nonexistent';
  test.each([
    ['no recipient', ['backup', '--out=x.age'], 2, /USAGE: --recipient is missing/],
    ['no file to write', ['backup', '--recipient=age1x'], 2, /USAGE: .*--out/],
    ['what is no recipient', ['backup', '--out=x.age', '--recipient=age1x'], 2, /BACKUP_RECIPIENT/],
    [
      'no store',
      ['backup', '--out=x.age', `--data=${none}`, `--recipient=${recipient}`],
      2,
      /KV_DATA: there is no store/,
    ],
    ['no folder to restore to', ['restore', none], 2, /USAGE: .*--data/],
    [
      'no backup',
      ['restore', none, '--data=x', '--identity=package.json', '--secret=package.json'],
      2,
      /USAGE: \/nonexistent is not there/,
    ],
    [
      'no key',
      ['restore', 'package.json', '--data=x', '--identity=package.json', '--secret=package.json'],
      2,
      /KV_SECRET/,
    ],
  ])('%s: refused, in a line, and nothing is made', async (_, args, wantedCode, wanted) => {
    const { code, stdout, stderr } = await dstack(['kv', ...args]);
    expect([code, stderr]).toEqual([wantedCode, expect.stringMatching(wanted)]);
    expect(stdout + stderr).not.toMatch(/\n +at |node:internal/);
    expect(existsSync(join(root, 'x.age')) || existsSync(join(root, 'x'))).toBe(false);
  });
});
