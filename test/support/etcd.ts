/** etcd of the locked Debian, started as kv's engine is; for comparisons also bare, on a port of the loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_QUOTA, etcdArguments } from '../../guest/kv/engine/arguments.ts';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { freePort } from './free-port.ts';

export interface EtcdOptions {
  /** Kept when it stops; without it a temporary one. */
  folder?: string;
  quota?: number;
  /** Listens on a free port instead of a unix socket, with its JSON gateway, as people start it. */
  bare?: boolean;
}

export interface Etcd {
  /** Empty for a bare one. */
  socket: string;
  /** `127.0.0.1:port` of a bare one. */
  address: string;
  folder: string;
  process(): ChildProcess;
  log(): string;
  /** Kills it, without a chance to write anything, and starts it again on the same files. */
  restart(): Promise<void>;
  kill(): Promise<void>;
  stop(): Promise<void>;
}

export async function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'dstack-etcd-'));
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const socket = options.bare ? '' : join(folder, 'etcd.sock');
  const address = options.bare ? `127.0.0.1:${await freePort()}` : '';
  const peerPort = await freePort();
  const args = etcdArguments({ data: folder, socket, peerPort, quota: options.quota ?? DEFAULT_QUOTA });
  const bareArgs = [
    ...args.filter((arg) => !/^--(listen|advertise)-client-urls|^--enable-grpc-gateway/.test(arg)),
    `--listen-client-urls=http://${address}`,
    `--advertise-client-urls=http://${address}`,
  ];
  const command = toolCommand('etcd', options.bare ? bareArgs : args);
  let child: ChildProcess;
  let said = '';
  const start = async (): Promise<void> => {
    child = spawn(command.command, command.args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-20_000);
    });
    const target = options.bare
      ? { host: '127.0.0.1', port: Number(address.split(':')[1]) }
      : { path: socket };
    while (!(await accepts(target))) {
      if (child.exitCode !== null) throw new Error(`etcd ended: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  await start();
  return {
    socket,
    address,
    folder,
    process: () => child,
    log: () => said,
    restart: async () => {
      await kill();
      await start();
    },
    kill,
    async stop() {
      await kill();
      if (options.folder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

function accepts(target: { path: string } | { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(target);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

export const bytesOf = (data: string | Uint8Array): Uint8Array => Buffer.from(data as string);
export const textOf = (data: Uint8Array): string => Buffer.from(data).toString();
