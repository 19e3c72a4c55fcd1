/**
 * The only code that writes to a terminal. What is printed contains text that others wrote: app names, answers of peers and
 * endpoints, file names, the last lines of a VM's console. So each line goes through `printable`, and a caller with several
 * lines passes them separately: a newline inside a line is shown as such, and never starts a new line.
 *
 * `npm run check` refuses every other use of standard output and standard error (scripts/printing.grit).
 */
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { DstackError } from '../protocol/errors.ts';
import { printable } from '../protocol/printable.ts';

let isMuted = false;

/** From here on `print` says nothing: for who wants an exit code alone. JSON, bytes and errors are printed all the same. */
export function mute(): void {
  isMuted = true;
}

/** Prints each argument as one line on standard output; without arguments, an empty line. */
export function print(...lines: readonly string[]): void {
  if (!isMuted) write(process.stdout, lines);
}

/** The same on standard error. */
export function printError(...lines: readonly string[]): void {
  write(process.stderr, lines);
}

/** JSON that stays valid when its strings are made printable. */
export function printJson(value: unknown, indent = 0): void {
  // JSON escapes every newline inside a string.
  write(process.stdout, JSON.stringify(value, null, indent).split('\n'));
}

/**
 * Bytes as they are on standard output, for another program; a person at a terminal is shown them as text in one line. Returns when they were taken.
 */
export async function printBytes(bytes: Uint8Array): Promise<void> {
  if (process.stdout.isTTY) print(new TextDecoder().decode(bytes));
  else await new Promise<void>((resolve) => process.stdout.write(bytes, () => resolve()));
}

/** Where a logger writes its lines when a person may be reading them. */
export const logLines = {
  write(line: string): void {
    write(process.stdout, line.replace(/\n$/, '').split('\n'));
  },
};

/**
 * Prints an error on standard error: `who: CODE: message`, with its details below. An unforeseen error is a bug, and its stack
 * trace is the report.
 */
export function printFailure(who: string, error: unknown): void {
  if (error instanceof DstackError) {
    printError(`${who}: ${error.code}: ${error.message}`, ...error.details.map((line) => `  | ${line}`));
  } else if (isSystemError(error)) printError(`${who}: FILE: ${error.message}`);
  else printError(...stackOf(error).map((line, at) => (at === 0 ? `${who}: ${line}` : `  ${line}`)));
}

/**
 * For a process whose output may be read by one that ends before it (`… | head -1`). What nobody reads any more is dropped, and the
 * process goes on to its own end, so that a transaction or a file which it began is brought to its own; what runs until it is told to
 * end is told so, as by SIGTERM. Anything else that keeps output from being written, such as a full disk, is an error as before.
 */
export function outliveReaders(): void {
  let isTold = false;
  const gone = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error;
    if (isTold || process.listenerCount('SIGTERM') === 0) return;
    isTold = true;
    process.emit('SIGTERM', 'SIGTERM');
  };
  process.stdout.on('error', gone);
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

/** Asks on the terminal; returns `no terminal` where input or output is not one. Only `y` and `yes` mean yes. */
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

/** Asks for what must not be seen, on standard error, and shows nothing of the answer. Undefined where there is no terminal. */
export async function askSecret(question: string): Promise<string | undefined> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  const unseen = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: unseen, terminal: true });
  const ended = new Promise<undefined>((resolve) => lines.once('close', () => resolve(undefined)));
  process.stderr.write(`${printable(question)}: `);
  try {
    return await Promise.race([lines.question(''), ended]);
  } finally {
    lines.close();
    process.stderr.write('\n');
  }
}

/** For example a file that is missing or may not be read or written (ENOENT, EACCES). Node's message names the file. */
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
