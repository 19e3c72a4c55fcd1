/**
 * The one place that writes to a terminal. What is printed is made of texts that others wrote: apps' names, peers' and
 * endpoints' answers, file names, the last lines of a VM's console. So each line goes through `printable`, and a caller that has
 * several lines says which they are: a newline inside of one is shown, and never begins a line of its own.
 *
 * `npm run check` refuses every other way to standard output and standard error (scripts/printing.grit).
 */
import { createInterface } from 'node:readline/promises';
import { DstackError } from '../protocol/errors.ts';
import { printable } from '../protocol/printable.ts';

/** Each argument is one line on standard output; without any, an empty one. */
export function print(...lines: readonly string[]): void {
  write(process.stdout, lines);
}

/** The same on standard error. */
export function printError(...lines: readonly string[]): void {
  write(process.stderr, lines);
}

/** JSON, which is still valid after what it holds was made printable. */
export function printJson(value: unknown, indent = 0): void {
  // JSON itself escapes each newline that is not its own.
  print(...JSON.stringify(value, null, indent).split('\n'));
}

/** Where a logger writes its lines when a person may be looking at them. */
export const logLines = {
  write(line: string): void {
    write(process.stdout, line.replace(/\n$/, '').split('\n'));
  },
};

/**
 * An error on standard error: `who: CODE: message`, its details below. What nobody foresaw is a bug, and its stack trace the
 * report.
 */
export function printFailure(who: string, error: unknown): void {
  if (error instanceof DstackError) {
    printError(`${who}: ${error.code}: ${error.message}`, ...error.details.map((line) => `  | ${line}`));
  } else if (isSystemError(error)) printError(`${who}: FILE: ${error.message}`);
  else printError(...stackOf(error).map((line, at) => (at === 0 ? `${who}: ${line}` : `  ${line}`)));
}

/** Asks on the terminal; `no terminal` where input or output is not one. Only `y` and `yes` are a yes. */
export async function confirm(question: string): Promise<'yes' | 'no' | 'no terminal'> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return 'no terminal';
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  try {
    const answer = await Promise.race([lines.question(`${printable(question)} [y/N] `), ended]);
    return /^y(es)?$/i.test(answer.trim()) ? 'yes' : 'no';
  } finally {
    lines.close();
  }
}

/** A file that is not there or not ours to read or write, say: ENOENT, EACCES. Node's message names it. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error;
}

function stackOf(error: unknown): readonly string[] {
  return (error instanceof Error ? (error.stack ?? error.message) : String(error)).split('\n');
}

function write(stream: NodeJS.WriteStream, lines: readonly string[]): void {
  const shown = lines.length === 0 ? [''] : lines;
  stream.write(`${shown.map(printable).join('\n')}\n`);
}
