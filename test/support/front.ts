/** The front as it runs in a VM, on this machine: HAProxy of the locked Debian, with the image's configuration in a folder of a test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { answersServer } from '../../guest/tls/answers.ts';
import { type Credentials, selfSigned } from '../../guest/tls/certificate.ts';
import { Front, type FrontState } from '../../guest/tls/front.ts';
import { type FrontDescription, frontFiles, imageFront } from '../../guest/tls/front-config.ts';
import { ask } from '../../guest/tls/runtime-socket.ts';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { listenUnix } from '../../lib/daemon/unix-http.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { freePort } from './free-port.ts';

export { freePort };

/** What a test may have otherwise than the image. */
export interface FrontChanges {
  limits?: Partial<FrontDescription['limits']>;
  times?: Partial<FrontDescription['times']>;
}

/** The image's front with every path below `root`, on a port of the loopback. */
export async function frontBelow(root: string, changes: FrontChanges = {}): Promise<FrontDescription> {
  const at = (path: string): string => join(root, path);
  const { controlGid, ...image } = imageFront;
  return {
    ...image,
    listen: {
      address: '127.0.0.1',
      port: await freePort(),
      proxiedPort: await freePort(),
      httpPort: await freePort(),
      storePort: await freePort(),
    },
    control: at(image.control),
    answers: at(image.answers),
    store: at(image.store),
    sorted: { visitors: at(image.sorted.visitors), challenges: at(image.sorted.challenges) },
    placeholder: at(image.placeholder),
    folder: at(image.folder),
    // Fewer than in an image: how many descriptors a process may have is limited on most machines.
    limits: { ...image.limits, connections: 1_000, ...changes.limits },
    times: { ...image.times, ...changes.times },
  };
}

/** Writes its files and starts it, as systemd does in a VM; `edit` for a test of what another configuration would do. */
export async function startHaproxy(
  description: FrontDescription,
  edit: (configuration: string) => string = (text) => text,
): Promise<ChildProcess> {
  mkdirSync(description.folder, { recursive: true });
  for (const path of [description.control, description.answers, description.placeholder])
    mkdirSync(join(path, '..'), { recursive: true });
  for (const [name, text] of frontFiles(description))
    writeFileSync(join(description.folder, name), name === 'haproxy.cfg' ? edit(text) : text);
  rmSync(description.control, { force: true });
  const { command, args, env } = toolCommand('haproxy', [
    '-db',
    '-f',
    join(description.folder, 'haproxy.cfg'),
  ]);
  const haproxy = spawn(command, args, {
    env: { ...env, OPENSSL_CONF: '/dev/null' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  haproxy.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-10_000);
  });
  // It binds the socket a moment before it listens at it.
  while (!(await listens(description.control))) {
    if (haproxy.exitCode !== null) throw new Error(`HAProxy ended: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return haproxy;
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export async function end(haproxy: ChildProcess): Promise<void> {
  if (haproxy.exitCode !== null || haproxy.signalCode !== null) return;
  const ended = once(haproxy, 'exit');
  haproxy.kill('SIGKILL');
  await ended;
}

const BUILT_AT = Math.floor(Date.now() / 1000);

/** Certificate and key of a network; another one for another `seed`. */
export const credentialsOf = (seed: number): Credentials =>
  selfSigned({
    privateKey: new Uint8Array(32).fill(seed),
    chainId: 1,
    contract: parseAddress(`0x${'ab'.repeat(20)}`),
    builtAt: BUILT_AT,
  });

export const pemOf = ({ certificate, key }: Credentials): FrontState['certificate'] => ({
  chain: certificate,
  key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
});

type NodeAnswers = Parameters<typeof answersServer>[0]['node'];

/** HAProxy, the driver's answers and the state that it was told, for tests that play the driver. */
export class TestFront {
  readonly credentials = credentialsOf(0x11);
  readonly folder: string;
  readonly description: FrontDescription;
  readonly front: Front;
  haproxy: ChildProcess;
  reason = 'no app yet';
  /** What the node answers by itself, for a target. */
  answers: NodeAnswers = async ({ target }) => ({ status: 404, headers: {}, body: `no ${target}` });
  readonly #answers: Server;

  private constructor(folder: string, description: FrontDescription, haproxy: ChildProcess) {
    this.folder = folder;
    this.description = description;
    this.haproxy = haproxy;
    this.front = new Front(description);
    this.#answers = answersServer({ reason: () => this.reason, node: (request) => this.answers(request) });
  }

  static async start(changes: FrontChanges = {}, edit?: (text: string) => string): Promise<TestFront> {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-front-'));
    const description = await frontBelow(folder, changes);
    mkdirSync(join(description.placeholder, '..'), { recursive: true });
    const { chain, key } = pemOf(credentialsOf(0x22));
    writeFileSync(description.placeholder, chain + key);
    const front = new TestFront(folder, description, await startHaproxy(description, edit));
    await listenUnix(front.#answers, { path: description.answers });
    return front;
  }

  get port(): number {
    return this.description.listen.port;
  }

  /** One site, at this port of the loopback, or none. */
  async serve(port?: number, protocol: 'http/1.1' | 'h2c' = 'http/1.1'): Promise<void> {
    const upstream = { app: 'greeting', host: '127.0.0.1', port: port ?? 1, protocol };
    await this.apply({ sites: [{ domains: [], ...(port !== undefined && { upstream }) }] });
  }

  apply(state: Partial<FrontState>): Promise<string[]> {
    return this.front.apply({
      certificate: pemOf(this.credentials),
      certificates: [],
      sites: [{ domains: [] }],
      sorting: false,
      challenges: [],
      ...state,
    });
  }

  /** The answer to a command of HAProxy's runtime socket. */
  control(line: string): Promise<string> {
    return ask(this.description.control, { line });
  }

  /** HAProxy dies, and is started again as systemd does. */
  async crash(): Promise<void> {
    await end(this.haproxy);
    this.haproxy = await startHaproxy(this.description);
  }

  async stop(): Promise<void> {
    await end(this.haproxy);
    this.#answers.closeAllConnections();
    this.#answers.close();
    rmSync(this.folder, { recursive: true });
  }
}

/** Any server on a port of the loopback. */
export async function listenOn(server: {
  listen(port: number, host: string, done: () => void): unknown;
  address(): unknown;
}): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
