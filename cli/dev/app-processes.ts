/** The two processes of an app under development, and their output. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { print, printError } from '../../lib/daemon/terminal.ts';
import type { Guard } from './guard.ts';

export const PROCESSES = ['enclave', 'host'] as const;
export type ProcessName = (typeof PROCESSES)[number];

/** Node before 24.12 says at each start that TypeScript is an experiment of its own. */
export const QUIETLY = '--disable-warning=ExperimentalWarning';
/** How long a process may take to end by itself, milliseconds. */
const END_WITHIN = 5_000;

export class AppProcesses {
  readonly #folder: string;
  readonly #guard: Guard | undefined;
  readonly #running = new Map<ProcessName, ChildProcess>();
  readonly #ending = new Map<ChildProcess, Promise<void>>();

  #stopped = false;

  constructor(folder: string, guard?: Guard) {
    this.#folder = folder;
    this.#guard = guard;
    // A second Ctrl-C ends this process at once.
    process.once('exit', this.#killAll);
  }

  /** Ends it, if it runs, and starts it; after `stop`, nothing is started any more. */
  async restart(name: ProcessName, env: NodeJS.ProcessEnv): Promise<void> {
    await this.#end(name);
    if (this.#stopped) return;
    const child = spawn(process.execPath, [QUIETLY, join(this.#folder, name, 'main.ts')], {
      cwd: this.#folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.set(name, child);
    this.#guard?.add(child.pid);
    createInterface({ input: child.stdout }).on('line', (line) => print(line));
    createInterface({ input: child.stderr }).on('line', (line) => printError(line));
    child.on('error', (error) => printError(`${name}: ${error.message}`));
    child.on('exit', (code, signal) => {
      this.#guard?.remove(child.pid);
      if (this.#ending.has(child) || this.#running.get(name) !== child) return;
      this.#running.delete(name);
      printError(`${name}: has ended (${signal ?? `code ${code}`}); it starts again when a file changes`);
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(PROCESSES.map((name) => this.#end(name)));
    process.off('exit', this.#killAll);
  }

  readonly #killAll = (): void => {
    for (const child of this.#running.values()) child.kill('SIGKILL');
  };

  async #end(name: ProcessName): Promise<void> {
    const child = this.#running.get(name);
    if (child === undefined) return;
    // Told by somebody else, it is waited for all the same.
    if (this.#ending.has(child)) return this.#ending.get(child);
    const end = this.#told(child).finally(() => {
      this.#ending.delete(child);
      if (this.#running.get(name) === child) this.#running.delete(name);
    });
    this.#ending.set(child, end);
    return end;
  }

  async #told(child: ChildProcess): Promise<void> {
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN);
    await gone;
    clearTimeout(timer);
  }
}
