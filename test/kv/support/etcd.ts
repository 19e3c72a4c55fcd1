/** A bare etcd of the locked Debian, on a port of the loopback: what the store is compared with. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { freePort } from '../../support/free-port.ts';
import type { BadDisk } from './bad-disk.ts';
import { StoreClient } from './client.ts';

/** What a workload is run against: it can be killed, in parts where it has parts, and started again over the same data. */
export interface Subject {
  /** Host and port. */
  readonly address: string;
  readonly parts: readonly string[];
  /** SIGKILL; returns when it is dead. */
  kill(part: string): Promise<void>;
  /** Starts what does not run, and returns when it answers. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export const QUICK: Readonly<Record<string, string>> = {
  'heartbeat-interval': '10',
  'election-timeout': '100',
};

/** Its output goes into `etcd.log` in the folder. */
export function startEtcd(folder: string, args: readonly string[], disk?: BadDisk): ChildProcess {
  const tool = toolCommand('etcd', args);
  const [command, rest] = disk?.enter(tool.command, tool.args) ?? [tool.command, tool.args];
  return spawnLogged(command, rest, join(folder, 'etcd.log'), tool.env);
}

export function spawnLogged(
  command: string,
  args: readonly string[],
  file: string,
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const log = openSync(file, 'a');
  const child = spawn(command, [...args], { env: { ...process.env, ...env }, stdio: ['ignore', log, log] });
  closeSync(log);
  return child;
}

export class BareEtcd implements Subject {
  readonly parts = ['etcd'];
  readonly #folder: string;
  readonly #port: number;
  readonly #peerPort: number;
  #process: ChildProcess | undefined;

  readonly #timing: Readonly<Record<string, string>>;

  private constructor(
    folder: string,
    port: number,
    peerPort: number,
    timing: Readonly<Record<string, string>>,
  ) {
    this.#folder = folder;
    this.#port = port;
    this.#peerPort = peerPort;
    this.#timing = timing;
  }

  /** With its data below `folder`. It elects itself and has nobody to wait for; with its own `timing` that takes a second. */
  static async start(folder: string, timing = QUICK): Promise<BareEtcd> {
    const etcd = new BareEtcd(folder, await freePort(), await freePort(), timing);
    await etcd.start();
    return etcd;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  async start(): Promise<void> {
    if (isRunning(this.#process)) return;
    mkdirSync(this.#folder, { recursive: true });
    const [url, peerUrl] = [`http://${this.address}`, `http://127.0.0.1:${this.#peerPort}`];
    const options = {
      'data-dir': join(this.#folder, 'etcd'),
      'listen-client-urls': url,
      'advertise-client-urls': url,
      'listen-peer-urls': peerUrl,
      'initial-advertise-peer-urls': peerUrl,
      'initial-cluster': `default=${peerUrl}`,
      'max-wals': '2',
      'snapshot-count': '10000',
      'quota-backend-bytes': `${2 ** 32}`,
      'log-level': 'warn',
      ...this.#timing,
    };
    const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
    this.#process = startEtcd(this.#folder, args);
    await answers(this.address, () => isRunning(this.#process));
  }

  async kill(): Promise<void> {
    await end(this.#process);
  }

  async stop(): Promise<void> {
    await end(this.#process);
  }
}

/** Waits until it answers a linearizable read. @throws Error after that many milliseconds, or when it does not live any more */
export async function answers(
  address: string,
  lives: () => boolean = () => true,
  milliseconds = 120_000,
): Promise<void> {
  const client = new StoreClient(address);
  try {
    for (const until = Date.now() + milliseconds; ; ) {
      try {
        await client.call(KV.method.range, { key: Buffer.from('?') });
        return;
      } catch (cause) {
        if (Date.now() > until || !lives()) throw new Error(`${address} does not answer`, { cause });
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    }
  } finally {
    client.close();
  }
}

export function isRunning(child: ChildProcess | undefined): boolean {
  return child !== undefined && child.exitCode === null && child.signalCode === null;
}

export async function end(child: ChildProcess | undefined): Promise<void> {
  if (!isRunning(child)) return;
  const ended = once(child!, 'exit');
  child!.kill('SIGKILL');
  await ended;
}
