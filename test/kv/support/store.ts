/** The store and its etcd as two processes, as they are in the VM, with a port for each namespace. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { etcdArguments } from '../../../guest/kv/engine/arguments.ts';
import { freePort } from '../../support/free-port.ts';
import { node24 } from '../../support/network.ts';
import type { BadDisk } from './bad-disk.ts';
import { answers, end, isRunning, type Subject, spawnLogged, startEtcd } from './etcd.ts';
import type { ListenerSettings, StoreProcessSettings } from './store-process.ts';

const QUOTA = 2 ** 32;

/** What a test may have otherwise. */
export interface StoreOptions {
  /** Prefixes of the namespaces; of the first one the owner calls. */
  readonly prefixes?: readonly string[];
  /** For Node, before the program. */
  readonly execArgv?: readonly string[];
  /** For etcd, besides its own. */
  readonly etcdArgs?: readonly string[];
  /** On which etcd has its data. */
  readonly disk?: BadDisk;
  /** On which kv has its ledger. */
  readonly ledgerDisk?: BadDisk;
  /** For kv. */
  readonly kv?: Pick<StoreProcessSettings, 'watched' | 'mostBehind'>;
}

export class Store implements Subject {
  readonly parts = ['kv', 'etcd'];
  readonly folder: string;
  readonly #listeners: readonly ListenerSettings[];
  readonly #peerPort: number;
  readonly #options: StoreOptions;
  #kv: ChildProcess | undefined;
  #etcd: ChildProcess | undefined;

  private constructor(
    folder: string,
    listeners: readonly ListenerSettings[],
    peerPort: number,
    options: StoreOptions,
  ) {
    this.folder = folder;
    this.#listeners = listeners;
    this.#peerPort = peerPort;
    this.#options = options;
  }

  /** With its data below `folder`. */
  static async start(folder: string, options: StoreOptions = {}): Promise<Store> {
    const { prefixes = ['o/'] } = options;
    const listeners: ListenerSettings[] = [];
    for (const [n, prefix] of prefixes.entries())
      listeners.push({ port: await freePort(), prefix, owner: n === 0 });
    const store = new Store(folder, listeners, await freePort(), options);
    await store.start();
    return store;
  }

  get address(): string {
    return this.addressOf(0);
  }

  /** Of a namespace, in the order of the prefixes. */
  addressOf(namespace: number): string {
    return `127.0.0.1:${this.#listeners[namespace]!.port}`;
  }

  /** etcd's, which only the store may use. */
  get socket(): string {
    return join(this.folder, 'etcd.sock');
  }

  /** Of kv and of etcd. */
  get pids(): readonly [number, number] {
    return [this.#kv!.pid!, this.#etcd!.pid!];
  }

  get isRunning(): boolean {
    return isRunning(this.#kv) && isRunning(this.#etcd);
  }

  async start(): Promise<void> {
    mkdirSync(this.folder, { recursive: true });
    const { socket } = this;
    if (!isRunning(this.#etcd)) {
      const { disk, etcdArgs = [] } = this.#options;
      const data = disk?.folder ?? this.folder;
      const args = etcdArguments({ data, socket, peerPort: this.#peerPort, quota: QUOTA });
      this.#etcd = startEtcd(this.folder, [...args, ...etcdArgs], disk);
    }
    if (!isRunning(this.#kv)) {
      const { ledgerDisk, execArgv = [] } = this.#options;
      const folder = ledgerDisk?.folder ?? this.folder;
      const listeners = this.#listeners;
      const settings: StoreProcessSettings = { socket, folder, listeners, ...this.#options.kv };
      const program = join(import.meta.dirname, 'store-process.ts');
      const plain = [...execArgv, program, JSON.stringify(settings)];
      const [command, args] = ledgerDisk?.enter(node24, plain) ?? [node24, plain];
      // What it compiles it compiles once, however often it is killed.
      const env = { NODE_COMPILE_CACHE: join(tmpdir(), 'dstack-compile-cache') };
      this.#kv = spawnLogged(command, args, join(this.folder, 'kv.log'), env);
    }
    await answers(this.address, () => this.isRunning).catch((cause) => {
      throw new Error(`the store does not start:\n${this.#lastWords()}`, { cause });
    });
  }

  /** The ends of both logs, for whoever reads of a failure after the folder is gone. */
  #lastWords(): string {
    const tail = (name: string): string => {
      const file = join(this.folder, name);
      return existsSync(file) ? readFileSync(file, 'utf8').slice(-1_500) : 'no log';
    };
    return this.parts.map((part) => `${part}: ${tail(`${part}.log`)}`).join('\n');
  }

  /** Waits for etcd to end by itself. @throws Error when it does not in time */
  async etcdEnded(milliseconds = 120_000): Promise<void> {
    for (const until = Date.now() + milliseconds; isRunning(this.#etcd); ) {
      if (Date.now() > until) throw new Error('etcd still runs');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill(part: string): Promise<void> {
    await end(part === 'kv' ? this.#kv : this.#etcd);
  }

  /** The kv ends by itself, so that it can write a profile. */
  async stop(): Promise<void> {
    if (isRunning(this.#kv)) {
      const kv = this.#kv!;
      kv.kill('SIGTERM');
      await Promise.race([
        new Promise((resolve) => kv.once('exit', resolve)),
        new Promise((resolve) => setTimeout(resolve, 5_000)),
      ]);
    }
    await end(this.#kv);
    await end(this.#etcd);
  }
}
