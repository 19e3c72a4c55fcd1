/** Talks to whatever listens, in every protocol that it might speak, and keeps all replies. */
import { createSocket } from 'node:dgram';
import { connect as connectTcp, type NetConnectOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ninepFiles } from '../../support/ninep-files.ts';
import { PATHS } from './paths.ts';
import type { Listener } from './processes.ts';

/** How long to wait for a server that may stay silent, and for an answer, which takes a VM on two shared cores a while. Milliseconds. */
const GREETING = 1_500;
const SILENCE = 40_000;
/** A shorter wait, for what nobody has to answer. */
const ODD_SILENCE = 5_000;
/** For QEMU's own answers, which need a turn of its main loop. */
const QEMU_SILENCE = 20_000;
const MAX_BYTES = 4 * 1024 * 1024;
/** Requests on one connection. */
const AT_ONCE = 16;

const end = (host: string) => `Host: ${host}\r\n`;
const LAST_REQUEST = `GET / HTTP/1.1\r\n${end('localhost')}Connection: close\r\n\r\n`;

const POSTS: readonly [string, object][] = [
  ['/v1/request', {}],
  ['/v1/answer', {}],
  ['/v1/onboard', {}],
  ['/v1/app-key', { app: 'greeting', tag: 'greeting' }],
  ['/v1/disk-key', { diskId: '00'.repeat(16) }],
  ['/v1/attest', { app: 'greeting', tag: 'greeting', data: '00' }],
  ['/', { jsonrpc: '2.0', id: 1, method: 'rpc_modules', params: [] }],
];
const HOSTS = ['localhost', 'dstack-guest'] as const;

/** QMP's questions, none of which reads memory: that is the processor's to protect. */
const UNIX_LINES: readonly string[] = [
  '{"execute":"qmp_capabilities"}',
  ...[
    'query-status',
    'query-chardev',
    'query-block',
    'query-blockstats',
    'query-pci',
    'query-memory-devices',
    'query-vnc',
    'query-migrate',
    'query-command-line-options',
    'query-named-block-nodes',
    'query-qmp-schema',
  ].map((execute) => JSON.stringify({ execute })),
];

/** What the simulated platform shows, to whoever asks as a guest does. */
const MEASUREMENTS = '/sys/devices/virtual/misc/tdx_guest/measurements';
const ENTRY = '/sys/kernel/config/tsm/report/host-view';
const PLATFORM_FILES: readonly string[] = [
  ...['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'].map((name) => `${MEASUREMENTS}/${name}:sha384`),
  ...['/sys/firmware/acpi/tables/CCEL', '/sys/firmware/acpi/tables/data/CCEL'],
  ...['provider', 'generation', 'outblob'].map((name) => `${ENTRY}/${name}`),
];

/** Everything that came back. */
export async function probe(listener: Listener): Promise<Buffer> {
  if (listener.kind === 'unix') {
    const said = await converse(() => connectTcp(listener.at), [`${UNIX_LINES.join('\n')}\n`], QEMU_SILENCE);
    return Buffer.concat([said, ...(isPlatform(listener) ? await platformFiles(listener.at) : [])]);
  }
  const at = endpoint(listener.at);
  if (listener.kind === 'udp') return datagrams(at);
  const plain = () => connectTcp(at);
  // Any certificate is accepted: what matters is what the server says.
  const secured = () => connectTls({ ...at, rejectUnauthorized: false });
  const garbage = Buffer.from([...Array(512).keys()].map((n) => (n * 167 + 13) & 0xff));
  const said = [
    // First send nothing: some servers greet.
    await converse(plain, [], GREETING),
    await converse(plain, [garbage, '\r\n\r\nhelp\r\n', `${UNIX_LINES[0]}\n`], GREETING),
  ];
  for (const connect of [plain, secured]) {
    said.push(...(await askAll(connect, httpRequests())));
    for (const request of oddRequests()) said.push(await converse(connect, [request], ODD_SILENCE));
  }
  return Buffer.concat(said);
}

function isPlatform(listener: Listener): boolean {
  return listener.at.endsWith('/platform.sock');
}

/** All that the simulated platform's files hold, and a quote of it. */
async function platformFiles(socketPath: string): Promise<Uint8Array[]> {
  const files = ninepFiles(socketPath);
  await files.makeFolder(ENTRY);
  await files.write(`${ENTRY}/inblob`, new Uint8Array(64));
  const contents = await Promise.all(PLATFORM_FILES.map((path) => files.read(path, MAX_BYTES)));
  await files.removeFolder(ENTRY);
  return contents;
}

/**
 * Many requests on few connections, because a handshake is expensive under emulation; requests left over when a connection closes
 * go to the next one. Several connections, so that requests are answered in parallel on the VM's two cores.
 */
async function askAll(connect: () => Socket, requests: readonly string[]): Promise<Buffer[]> {
  const said: Buffer[] = [];
  for (let next = 0; next < requests.length; ) {
    const group = requests.slice(next, next + AT_ONCE);
    const replies = await converse(connect, [[...group, LAST_REQUEST].join('')], SILENCE);
    const count = replies.toString('latin1').match(/HTTP\/1\.[01] \d{3} /g)?.length ?? 0;
    said.push(replies);
    // Whatever does not speak HTTP is not asked for more of it.
    if (next === 0 && count === 0) break;
    next += Math.min(Math.max(1, count), group.length);
  }
  return said;
}

function httpRequests(): string[] {
  const gets = HOSTS.flatMap((host) => PATHS.map((path) => `GET ${path} HTTP/1.1\r\n${end(host)}\r\n`));
  const posts = POSTS.map(([path, body]) => {
    const text = JSON.stringify(body);
    return `POST ${path} HTTP/1.1\r\n${end('localhost')}Content-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  });
  return [...gets, ...posts];
}

/** Each on a connection of its own, because a server closes the connection on a request that it does not support. */
function oddRequests(): string[] {
  return [
    `CONNECT dstack-guest:80 HTTP/1.1\r\n${end('dstack-guest:80')}\r\n`,
    `OPTIONS * HTTP/1.1\r\n${end('localhost')}Connection: close\r\n\r\n`,
    `TRACE / HTTP/1.1\r\n${end('localhost')}Connection: close\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
  ];
}

/** Sends these and resolves with the replies, once the other side hangs up or has been silent for a while. */
function converse(
  connect: () => Socket,
  say: readonly (string | Buffer)[],
  silence: number,
): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const socket = connect();
    socket.on('data', (chunk: Buffer) => {
      size += chunk.length;
      chunks.push(chunk);
      if (size > MAX_BYTES) socket.destroy();
    });
    socket.setTimeout(silence, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(chunks)));
    for (const text of say) socket.write(text);
  });
}

function datagrams({ host, port }: { host: string; port: number }): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', (message) => chunks.push(message));
    socket.on('error', () => {});
    for (const text of ['\0', 'help\n', `${UNIX_LINES[0]}\n`]) socket.send(text, port, host, () => {});
    setTimeout(() => socket.close(() => resolve(Buffer.concat(chunks))), GREETING);
  });
}

/** @param at `127.0.0.1:80`, `[::1]:80`; all addresses of the machine are reached through loopback */
function endpoint(at: string): NetConnectOpts & { host: string; port: number } {
  const [, address, port] = /^\[?(.+?)\]?:(\d+)$/.exec(at)!;
  const any = address === '0.0.0.0' || /^[0:]+$/.test(address!);
  return { host: any ? '127.0.0.1' : address!, port: Number(port) };
}
