/**
 * Ends the processes of `dstack dev` when that was killed, and could not do so itself: a shell that waits for the end of what it is told, and
 * then kills those named last. They would go on for ever, and the enclave keep its port.
 */
import { type ChildProcess, spawn } from 'node:child_process';

/** A folder is its argument; it lives through the Ctrl-C that ends the others in order. */
const SCRIPT = `trap '' INT TERM HUP
last=
while read -r line; do last=$line; done
for pid in $last; do kill -KILL "$pid" 2>/dev/null; done
[ -n "$last" ] && rm -rf "$1"`;

export class Guard {
  readonly #shell: ChildProcess;
  readonly #pids = new Set<number>();

  /** @param folder goes with the processes */
  constructor(folder: string) {
    const stdio = ['pipe', 'ignore', 'ignore'] as const;
    this.#shell = spawn('/bin/sh', ['-c', SCRIPT, 'sh', folder], { stdio: [...stdio], detached: true });
    // A machine without a shell has no guard, and all else.
    this.#shell.on('error', () => {});
    this.#shell.stdin?.on('error', () => {});
    this.#shell.unref();
  }

  add(pid: number | undefined): void {
    if (pid === undefined) return;
    this.#pids.add(pid);
    this.#tell();
  }

  /** It has ended: its number may be another's next. */
  remove(pid: number | undefined): void {
    if (pid !== undefined && this.#pids.delete(pid)) this.#tell();
  }

  /** Everything has ended in order. */
  close(): void {
    this.#pids.clear();
    this.#tell();
    this.#shell.stdin?.end();
  }

  #tell(): void {
    this.#shell.stdin?.write(`${[...this.#pids].join(' ')}\n`);
  }
}
