/** The two processes of an app under development, and their output. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { print, printError } from '../../lib/daemon/terminal.ts';

export const PROCESSES = ['enclave', 'host'] as const;
export type ProcessName = (typeof PROCESSES)[number];

/** How long a process may take to end by itself, milliseconds. */
const END_WITHIN = 5_000;

export class AppProcesses {
  readonly #folder: string;
  readonly #running = new Map<ProcessName, ChildProcess>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Ends it, if it runs, and starts it. */
  async restart(name: ProcessName, env: NodeJS.ProcessEnv): Promise<void> {
    await this.#end(name);
    const child = spawn(process.execPath, [join(this.#folder, name, 'main.ts')], {
      cwd: this.#folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.set(name, child);
    createInterface({ input: child.stdout }).on('line', (line) => print(line));
    createInterface({ input: child.stderr }).on('line', (line) => printError(line));
    child.on('error', (error) => printError(`${name}: ${error.message}`));
    child.on('exit', (code, signal) => {
      if (this.#running.get(name) !== child) return;
      this.#running.delete(name);
      printError(`${name}: has ended (${signal ?? `code ${code}`}); it starts again when a file changes`);
    });
  }

  async stop(): Promise<void> {
    await Promise.all(PROCESSES.map((name) => this.#end(name)));
  }

  async #end(name: ProcessName): Promise<void> {
    const child = this.#running.get(name);
    if (child === undefined) return;
    this.#running.delete(name);
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN);
    await gone;
    clearTimeout(timer);
  }
}
