/** The commands of this repository as processes of their own: those that end, with the JSON that they print, and those that run until they are ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { repository } from '../../repository.ts';

export type Settings = Readonly<Record<string, string>>;
type Line = Readonly<Record<string, unknown>>;

const MAIN = ['--disable-warning=ExperimentalWarning', '--', join(repository, 'cli/main.ts')] as const;
/** A VM has to shut down. Milliseconds. */
const END_WITHIN = 60_000;

/** @returns what it prints with --json. @throws DEV_VM_STEP with the command's own words */
export async function run(env: Settings, stopped: AbortSignal, ...words: readonly string[]): Promise<Line> {
  const options = { env: { ...env }, reject: false, cancelSignal: stopped, detached: true } as const;
  const { failed, stdout, stderr } = await execa(process.execPath, [...MAIN, ...words, '--json'], options);
  if (!failed) return JSON.parse(stdout) as Line;
  throw new DstackError('DEV_VM_STEP', `dstack ${words.slice(0, 3).join(' ')} failed`, {
    details: stderr.split('\n'),
  });
}

export interface Service {
  readonly pid: number | undefined;
  /** Resolves with the code of an error when it has ended. */
  readonly ended: Promise<DstackError>;
  /** The first line of JSON that it logs with this message. @throws DEV_VM_STEP if it ends first */
  line(msg: string): Promise<Line>;
  stop(): Promise<void>;
}

/** In a process group of its own: Ctrl-C is for who puts them to an end in order. @param log a file, which gets all that it prints */
export function start(env: Settings, log: string, ...words: readonly string[]): Service {
  const child = spawn(process.execPath, [...MAIN, ...words], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const file = createWriteStream(log);
  const lines: Line[] = [];
  let told = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    file.write(`${line}\n`);
    lines.push(parsed(line));
    told.resolve();
    told = Promise.withResolvers();
  });
  child.stderr.pipe(file, { end: false });
  const ended = once(child, 'exit').then(
    () =>
      new DstackError('DEV_VM_STEP', `dstack ${words.slice(0, 2).join(' ')} has ended: its log is ${log}`),
  );
  return {
    pid: child.pid,
    ended,
    async line(msg) {
      for (;;) {
        const found = lines.find((line) => line.msg === msg);
        if (found !== undefined) return found;
        const error = await Promise.race([told.promise, ended]);
        if (error !== undefined) throw error;
      }
    },
    stop: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN);
  await gone;
  clearTimeout(timer);
}

function parsed(line: string): Line {
  try {
    return JSON.parse(line) as Line;
  } catch {
    return {};
  }
}
