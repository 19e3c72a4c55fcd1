/** Runs a program of the build: shows output on failure only, and errors name the program. */
import { spawn } from 'node:child_process';
import { DstackError } from '../../lib/protocol/errors.ts';

/** apt's own downloader and unpacker, which Debian and Ubuntu always have. */
export const aptHelper = '/usr/lib/apt/apt-helper';

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly input?: string;
}

/**
 * Runs `command` without a shell and resolves to its standard output.
 * @throws DstackError COMMAND_FAILED with the end of its output, when it exits non-zero or cannot be started.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    const fail = (why: string, cause?: unknown) => {
      const said = `${Buffer.concat(errors)}${Buffer.concat(output)}`.trim().split('\n').slice(-30);
      reject(
        new DstackError('COMMAND_FAILED', `${command} ${args.slice(0, 6).join(' ')}: ${why}`, {
          cause,
          details: said,
        }),
      );
    };
    child.on('error', (error) => fail(error.message, error));
    child.on('close', (code, signal) => {
      if (code === 0) resolve(Buffer.concat(output).toString('utf8'));
      else fail(signal === null ? `exit status ${code}` : `killed by ${signal}`);
    });
  });
}
