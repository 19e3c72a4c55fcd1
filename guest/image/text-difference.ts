/** How two texts differ, in a few lines: by diff(1) for texts with normal lines, else by what surrounds the change. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';

/** Of longer texts it is only said that they differ. */
export const MAX_TEXT_BYTES = 16 * 2 ** 20;
const MAX_LINE = 500;
const MAX_LINES = 60;
const AROUND = 80;
const MAX_CHANGE = 400;

/** Lines to print; undefined when either is not a text. */
export async function textDifference(a: Buffer, b: Buffer): Promise<string[] | undefined> {
  const [before, after] = [textOf(a), textOf(b)];
  if (before === undefined || after === undefined) return undefined;
  const forPeople = [before, after].every((text) =>
    text.split('\n').every((line) => line.length <= MAX_LINE),
  );
  return forPeople ? await unified(before, after) : changedPart(before, after);
}

function textOf(bytes: Buffer): string | undefined {
  if (bytes.length >= MAX_TEXT_BYTES || bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

async function unified(before: string, after: string): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'dstack-diff-'));
  try {
    await writeFile(join(folder, 'a'), before);
    await writeFile(join(folder, 'b'), after);
    const said = await new Promise<string>((resolve, reject) => {
      execFile('diff', ['-u', join(folder, 'a'), join(folder, 'b')], { maxBuffer: 2 ** 26 }, (error, out) => {
        // diff exits with 1 when there is a difference.
        if (error !== null && error.code !== 1) {
          reject(new DstackError('COMMAND_FAILED', `diff: ${error.message}`, { cause: error }));
        } else resolve(out);
      });
    });
    const lines = said.trimEnd().split('\n').slice(2);
    return lines.length <= MAX_LINES
      ? lines
      : [...lines.slice(0, MAX_LINES), `… ${lines.length - MAX_LINES} more lines`];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** For bundles, whose lines have a hundred thousand characters: what is between their common beginning and end. */
function changedPart(before: string, after: string): string[] {
  let start = 0;
  const shorter = Math.min(before.length, after.length);
  while (start < shorter && before[start] === after[start]) start++;
  let end = 0;
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const part = (text: string) => {
    const changed = text.slice(start, text.length - end);
    const shown =
      changed.length <= MAX_CHANGE
        ? changed
        : `${changed.slice(0, MAX_CHANGE / 2)} … ${changed.length - MAX_CHANGE} characters … ${changed.slice(-MAX_CHANGE / 2)}`;
    const left = text.slice(Math.max(0, start - AROUND), start);
    const right = text.slice(text.length - end, text.length - end + AROUND);
    return `${left}[${shown}]${right}`.replaceAll('\n', '\\n');
  };
  return [`@@ character ${start} @@`, `-${part(before)}`, `+${part(after)}`];
}
