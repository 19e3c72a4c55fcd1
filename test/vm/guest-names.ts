/**
 * The name server of a test's VMs: it leads every name to this machine, and has the records that a test sets. A guest's questions go to
 * port 53 of whom its host's resolv.conf names, so QEMU is started where that file is another one. Port 53 takes root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { freePort } from '../support/free-port.ts';

/** Of the loopback, and nobody else's. */
const ADDRESS = '127.53.53.53';
/** This machine, in QEMU's user network. */
const HOST_SEEN_BY_GUESTS = '10.0.2.2';
const isRoot = process.getuid?.() === 0;

export class GuestNames {
  /** What starts QEMU so that its guest asks here. */
  readonly under: readonly string[];
  readonly #management: string;
  readonly #process: ChildProcess;

  private constructor(under: readonly string[], management: string, process: ChildProcess) {
    this.under = under;
    this.#management = management;
    this.#process = process;
  }

  /** @param folder for the file that stands for resolv.conf */
  static async start(folder: string): Promise<GuestNames> {
    const file = join(folder, 'resolv.conf');
    writeFileSync(file, `nameserver ${ADDRESS}\n`);
    const management = await freePort();
    const nowhere = ['-http01', '-https01', '-tlsalpn01', '-doh'].flatMap((flag) => [flag, '']);
    const { command, args } = toolCommand('pebble-challtestsrv', [
      ...nowhere,
      ...['-defaultIPv4', HOST_SEEN_BY_GUESTS, '-defaultIPv6', ''],
      ...['-dnsserver', `${ADDRESS}:53`, '-management', `127.0.0.1:${management}`],
    ]);
    const [program, ...rest] = [...(isRoot ? [] : ['sudo']), command, ...args];
    const child = spawn(program!, rest, { stdio: 'ignore' });
    const own = ['unshare', ...(isRoot ? [] : ['--map-root-user']), '--mount'];
    const under = [...own, 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"', file];
    const names = new GuestNames(under, `http://127.0.0.1:${management}`, child);
    for (let tries = 0; ; tries++) {
      try {
        await names.setTxt('nothing.example', 'nothing');
        return names;
      } catch (cause) {
        if (tries > 300) throw new Error('the name server for guests does not answer', { cause });
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async setTxt(name: string, value: string): Promise<void> {
    const body = JSON.stringify({ host: `${name}.`, value });
    const answer = await fetch(`${this.#management}/set-txt`, { method: 'POST', body });
    if (!answer.ok) throw new Error(`challtestsrv answers ${answer.status} to set-txt`);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
  }
}
