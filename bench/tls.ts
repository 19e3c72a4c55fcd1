/**
 * The website's front next to a plain nginx of the same Debian: the same certificate, the same upstream, the same load, in one run.
 * They take turns, round by round, and a round's ratio is of its own two measurements, so that a machine that is busy in some
 * rounds and idle in others does not decide it; the median of the rounds counts. Ours is the front as the image has it,
 * driven by the daemon's own code; nginx passes requests on over kept connections, with the same headers added.
 *
 * Then 1,000 WebSockets lie idle in ours, while 500 more connections are served.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect as connectTcp, type Socket } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { print, printError } from '../lib/daemon/terminal.ts';
import { toolCommand } from '../lib/daemon/tool-root.ts';
import { freePort, listenOn, pemOf, TestFront } from '../test/support/front.ts';
import { cpuOf, familyOf } from './processes.ts';

const ROUNDS = 7;
const REQUESTS = 30_000;
const LOADS = {
  'HTTP/1.1': ['--h1', '-c', '32', '-m', '1'],
  'HTTP/2': ['-c', '8', '-m', '8'],
} as const;
type Protocol = keyof typeof LOADS;
const PROTOCOLS = Object.keys(LOADS) as Protocol[];
const CONTESTANTS = ['ours', 'nginx'] as const;
type Contestant = (typeof CONTESTANTS)[number];
const AIMS = { perSecond: 0.9, p99: 1.2, cpu: 1.15, kilobytes: 50 } as const;
const SOCKETS = 1_000;
const BESIDES = 500;
/** The example of RFC 6455, section 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

interface Measurement {
  /** Requests per second. */
  perSecond: number;
  /** Milliseconds. */
  p99: number;
  /** Microseconds of the front's processors a request. */
  cpu: number;
}

export async function benchTls(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-tls-'));
  const running: ChildProcess[] = [];
  const front = await TestFront.start({
    limits: {
      sharedSources: ['127.0.0.1'],
      connections: SOCKETS + BESIDES + 100,
      // Fewer than by default, since HAProxy asks for descriptors of all at its start and a session may be held to 20,000.
      httpConnections: 64,
      requests: 2_000,
    },
  });
  try {
    const upstream = await startUpstream(folder, running);
    await front.serve(upstream);
    const nginx = await startNginx(folder, front, upstream, running);
    const places: Record<Contestant, { port: number; pids: () => number[] }> = {
      ours: { port: front.port, pids: () => [front.haproxy.pid!] },
      nginx: { port: nginx.port, pids: () => familyOf(nginx.pid) },
    };
    const results = await rounds(folder, places);
    const sockets = await idleSockets(front, upstream);
    report(results, sockets);
  } finally {
    await Promise.all(running.map(endNginx));
    await front.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

type Results = Record<Protocol, Record<Contestant, Measurement[]>>;

async function rounds(
  folder: string,
  places: Record<Contestant, { port: number; pids: () => number[] }>,
): Promise<Results> {
  const results: Results = {
    'HTTP/1.1': { ours: [], nginx: [] },
    'HTTP/2': { ours: [], nginx: [] },
  };
  for (let round = 0; round <= ROUNDS; round++) {
    for (const protocol of PROTOCOLS) {
      // Who goes first changes, and the first round only warms up.
      for (const contestant of round % 2 === 0 ? CONTESTANTS : CONTESTANTS.toReversed()) {
        printError(`round ${round} of ${ROUNDS}: ${protocol}, ${contestant}`);
        const measurement = await measure(folder, protocol, places[contestant]);
        if (round > 0) results[protocol][contestant].push(measurement);
      }
    }
  }
  return results;
}

async function measure(
  folder: string,
  protocol: Protocol,
  { port, pids }: { port: number; pids: () => number[] },
): Promise<Measurement> {
  const log = join(folder, 'requests.log');
  rmSync(log, { force: true });
  const before = cpuOf(pids());
  const perSecond = await load(port, ['-n', `${REQUESTS}`, ...LOADS[protocol], '--log-file', log]);
  const cpu = (cpuOf(pids()) - before) / REQUESTS;
  // Of each line: when it began, its status, and how long it took in microseconds.
  const times = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => Number(line.split('\t')[2]));
  const p99 = times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)]! / 1000;
  return { perSecond, p99, cpu };
}

/** By the signal that it passes on: nginx's workers outlive a master that is killed. */
async function endNginx(master: ChildProcess): Promise<void> {
  if (master.exitCode !== null || master.signalCode !== null) return;
  const ended = once(master, 'exit');
  master.kill('SIGTERM');
  await ended;
}

/** Requests per second. @throws Error when one of them failed */
async function load(port: number, args: readonly string[]): Promise<number> {
  const tool = toolCommand('h2load', ['-t', '1', ...args, `https://127.0.0.1:${port}/`]);
  const env = { ...process.env, ...tool.env, OPENSSL_CONF: '/dev/null' };
  const { stdout } = await promisify(execFile)(tool.command, [...tool.args], { env, maxBuffer: 2 ** 24 });
  const [, succeeded, failed] = /(\d+) succeeded, (\d+) failed/.exec(stdout) ?? [];
  const rate = /finished in [^,]*, ([\d.]+) req\/s/.exec(stdout)?.[1];
  if (failed !== '0' || rate === undefined || /[1-9]\d* (4xx|5xx)/.test(stdout)) {
    throw new Error(`the load failed: ${succeeded} succeeded, ${failed} failed\n${stdout}`);
  }
  return Number(rate);
}

/** Microseconds on a processor, of all threads (/proc/PID/task/TID/schedstat). */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

function nginxConfiguration(folder: string, workers: number, server: string): string {
  mkdirSync(folder, { recursive: true });
  return `daemon off;
pid ${folder}/pid;
error_log ${folder}/error.log;
worker_processes ${workers};
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 100000000;
${TEMPORARY.map((name) => `  ${name}_temp_path ${folder}/${name};`).join('\n')}
${server}
}
`;
}

async function spawnNginx(
  folder: string,
  text: string,
  port: number,
  running: ChildProcess[],
): Promise<number> {
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, text);
  const { command, args, env } = toolCommand('nginx', ['-c', file, '-e', join(folder, 'error.log')]);
  const child = spawn(command, [...args], { env: { ...env, OPENSSL_CONF: '/dev/null' }, stdio: 'ignore' });
  running.push(child);
  await untilListening(port);
  return child.pid!;
}

/** A page of 256 bytes, from memory. */
async function startUpstream(folder: string, running: ChildProcess[]): Promise<number> {
  const port = await freePort();
  const body = createHash('sha512').update('a page').digest('hex').repeat(2);
  const server = `  server { listen 127.0.0.1:${port}; location / { default_type text/html; return 200 "${body}"; } }`;
  const own = join(folder, 'upstream');
  await spawnNginx(own, nginxConfiguration(own, 1, server), port, running);
  return port;
}

async function startNginx(
  folder: string,
  front: TestFront,
  upstream: number,
  running: ChildProcess[],
): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const own = join(folder, 'nginx');
  const { chain, key } = pemOf(front.credentials);
  const server = `  upstream app { server 127.0.0.1:${upstream}; keepalive 256; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} ssl;
    http2 on;
    ssl_certificate ${own}/site.pem;
    ssl_certificate_key ${own}/site.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Proto https;
    }
  }`;
  const text = nginxConfiguration(own, cpus().length, server);
  writeFileSync(join(own, 'site.pem'), chain + key, { mode: 0o600 });
  return { port, pid: await spawnNginx(own, text, port, running) };
}

async function untilListening(port: number): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connectTcp(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
      }).on('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`nothing listens on port ${port}`);
}

interface IdleSockets {
  /** Of memory, for each of the sockets. */
  kilobytes: number;
  /** Requests per second of the connections besides. */
  perSecond: number;
  /** How many of the sockets still pass a byte on afterwards. */
  alive: number;
}

/** Sockets that are upgraded and then silent, beside connections that are served. */
async function idleSockets(front: TestFront, upstream: number): Promise<IdleSockets> {
  printError(`${SOCKETS} idle WebSockets, and ${BESIDES} connections besides`);
  const echo = createServer();
  echo.on('upgrade', (_request, socket: Socket) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n\r\n`,
    );
    socket.pipe(socket).on('error', () => {});
  });
  const at = (port: number) => ({ app: 'bench', host: '127.0.0.1', port, protocol: 'http/1.1' as const });
  await front.apply({
    sites: [
      { domains: [], upstream: at(upstream) },
      { domains: ['echo.example'], upstream: at(await listenOn(echo)) },
    ],
  });
  const pid = front.haproxy.pid!;
  const before = residentOf(pid);
  const sockets: TLSSocket[] = [];
  for (let i = 0; i < SOCKETS; i++) sockets.push(await upgraded(front.port));
  const kilobytes = (residentOf(pid) - before) / SOCKETS;
  const perSecond = await load(front.port, ['-n', `${REQUESTS}`, '--h1', '-c', `${BESIDES}`, '-m', '1']);
  const answers = sockets.map(
    (socket) =>
      new Promise<number>((resolve) => {
        socket.once('data', () => resolve(1)).once('close', () => resolve(0));
        socket.write('x');
      }),
  );
  const alive = (await Promise.all(answers)).reduce((sum, one) => sum + one, 0);
  for (const socket of sockets) socket.destroy();
  echo.close();
  echo.closeAllConnections();
  return { kilobytes, perSecond, alive };
}

function upgraded(port: number): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, servername: 'echo.example', rejectUnauthorized: false };
    const socket = connect(options, () =>
      socket.write(
        `GET / HTTP/1.1\r\nHost: echo.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`,
      ),
    );
    socket.on('error', reject);
    socket.once('data', (bytes) => {
      if (bytes.toString('latin1').startsWith('HTTP/1.1 101')) resolve(socket);
      else reject(new Error(`no upgrade: ${bytes.toString('latin1').slice(0, 100)}`));
    });
  });
}

/** Kilobytes of memory that the process has to itself. */
function residentOf(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function report(results: Results, sockets: IdleSockets): void {
  const lines: string[] = [];
  const json: Record<string, unknown> = {};
  for (const protocol of PROTOCOLS) {
    const { ours, nginx } = results[protocol];
    const row = (title: string, key: keyof Measurement, digits: number, aim: string) => {
      const ratios = ours.map((one, round) => one[key] / nginx[round]![key]);
      const values = [ours, nginx].map((all) => median(all.map((one) => one[key])));
      const ratio = median(ratios);
      json[`${protocol} ${key}`] = { ours: values[0], nginx: values[1], ratio };
      const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
      lines.push(
        `| ${[protocol, title, ...values.map((value) => value!.toFixed(digits)), `${ratio.toFixed(2)}x (${spread})`, aim].join(' | ')} |`,
      );
    };
    row('requests/s', 'perSecond', 0, `≥ ${AIMS.perSecond}x`);
    row('99th percentile, ms', 'p99', 2, `≤ ${AIMS.p99}x`);
    row('processor time a request, µs', 'cpu', 1, `≤ ${AIMS.cpu}x`);
  }
  print(`${cpus().length} × ${cpus()[0]?.model.trim()}; ${ROUNDS} rounds of ${REQUESTS} requests each`, '');
  print('| | | ours | nginx | ours to nginx | aim |', '|---|---|---:|---:|---:|---:|', ...lines, '');
  print(
    `${SOCKETS} idle WebSockets: ${sockets.kilobytes.toFixed(1)} kB each (aim: ≤ ${AIMS.kilobytes}), ${sockets.alive} of them alive ` +
      `after ${BESIDES} more connections were served, ${sockets.perSecond.toFixed(0)} requests/s`,
  );
  print('', JSON.stringify({ ...json, sockets }));
}

function median(all: readonly number[]): number {
  return all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
}
