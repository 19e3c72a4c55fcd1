/** etcd as a child of a store on a laptop. In a VM it is a daemon of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ToolCommand } from '../../../lib/daemon/tool-root.ts';
import { type EngineSettings, etcdArguments } from '../engine/arguments.ts';

/** How long etcd may take to end by itself. Milliseconds. */
const END_WITHIN = 10_000;

export interface EtcdProcess {
  /** Resolves when it has ended, by itself or because it was told to, with the end of what it said. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

/** @param commandFor the program with these arguments */
export function startEtcdProcess(
  settings: EngineSettings,
  commandFor: (args: readonly string[]) => ToolCommand,
): EtcdProcess {
  const pidFile = join(settings.data, 'etcd.pid');
  endOrphan(pidFile, settings.data);
  const { command, args, env } = commandFor(etcdArguments(settings));
  const child = spawn(command, args, {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    // Of its own: Ctrl-C is for the store, which ends etcd when it has ended its calls.
    detached: true,
  });
  writeFileSync(pidFile, String(child.pid ?? ''));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000);
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', () => resolve(said));
  });
  return { ended, stop: () => stop(child, pidFile) };
}

async function stop(child: ChildProcess, pidFile: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN);
    await exited;
    clearTimeout(timer);
  }
  rmSync(pidFile, { force: true });
}

/** Ends the etcd of a store that was killed: two on one folder would wait for each other. */
function endOrphan(pidFile: string, data: string): void {
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8'));
  if (!Number.isSafeInteger(pid) || pid <= 1) return;
  let commandLine: string;
  try {
    commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return;
  }
  // The number may be another process's by now.
  if (!commandLine.split('\0').includes(`--data-dir=${join(data, 'etcd')}`)) return;
  process.kill(pid, 'SIGKILL');
}
