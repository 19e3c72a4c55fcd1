/**
 * Disks that fail, in a mount namespace of their own: they are there for processes that are started by `enter`, and gone when the
 * holder of the namespace is. A small tmpfs that is full refuses writes (ENOSPC). A file system on a file of such a tmpfs takes every write,
 * and fails when it has to be synced (EIO).
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { end } from './etcd.ts';

export const kinds = ['full', 'unsynced'] as const;
export type Kind = (typeof kinds)[number];

export class BadDisk {
  /** Where it is, in its namespace. */
  readonly folder: string;
  readonly #kind: Kind;
  readonly #around: string;
  readonly #holder: ChildProcess;

  private constructor(kind: Kind, around: string, holder: ChildProcess) {
    this.#kind = kind;
    this.#around = around;
    this.folder = join(around, 'disk');
    this.#holder = holder;
  }

  /** `unsynced` needs root: a file system on a file may only be mounted by it. */
  static async mount(kind: Kind, megabytes: number): Promise<BadDisk> {
    const around = mkdtempSync(join(tmpdir(), 'dstack-disk-'));
    const script = [
      'set -e',
      `cd ${around}`,
      'mkdir disk below',
      ...(kind === 'full'
        ? [`mount -t tmpfs -o size=${megabytes}m tmpfs disk`]
        : [
            `mount -t tmpfs -o size=${megabytes}m tmpfs below`,
            'truncate -s 1G below/image',
            'mkfs.ext4 -q -E lazy_itable_init=1,nodiscard -J size=8 below/image',
            'mount -o loop below/image disk',
          ]),
      'echo ready',
      'exec cat',
    ].join('\n');
    const unshare = kind === 'full' ? ['-rm'] : ['-m'];
    const holder = spawn('unshare', [...unshare, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ready = await Promise.race([once(holder.stdout!, 'data'), once(holder, 'exit')]);
    if (`${ready[0]}` !== 'ready\n') throw new Error(`no disk of kind ${kind} can be made here`);
    return new BadDisk(kind, around, holder);
  }

  /** The command that runs one in its namespace, as the same process. */
  enter(command: string, args: readonly string[]): [string, string[]] {
    const user = this.#kind === 'full' ? ['-U', '--preserve-credentials'] : [];
    return ['nsenter', [...user, '-m', '-t', `${this.#holder.pid}`, '--', command, ...args]];
  }

  /** What a shell of its namespace says to a script, in the disk's folder. */
  run(script: string): string {
    const [command, args] = this.enter('sh', ['-c', `cd ${this.folder}\n${script}`]);
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  /** Gives it room again. What was mounted on a disk that failed is mounted anew, as after a reboot: nothing may run on it. */
  enlarge(megabytes: number): void {
    const mounted = this.#kind === 'full' ? this.folder : join(this.#around, 'below');
    const script = [
      'set -e',
      `mount -o remount,size=${megabytes}m ${mounted}`,
      ...(this.#kind === 'full'
        ? []
        : [`umount ${this.folder}`, `mount -o loop ${mounted}/image ${this.folder}`]),
    ].join('\n');
    const [command, args] = this.enter('sh', ['-c', script]);
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  async remove(): Promise<void> {
    await end(this.#holder);
    rmSync(this.#around, { recursive: true, force: true });
  }
}
