/** Reading what somebody named on a command line, or what others put into a folder: a file, of a size that is expected, and nothing that never ends. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { DstackError } from '../protocol/errors.ts';

export interface Bounds {
  readonly maxBytes: number;
  /** Whether a pipe will do, as of a shell's `<(…)`. What others can put there should not be one: it may never end. */
  readonly pipes?: boolean;
}

/**
 * @throws FILE_KIND for what is no file, FILE_TOO_LARGE, and the file system's own errors
 */
export function readBounded(path: string, { maxBytes, pipes = false }: Bounds): Buffer {
  const stat = statSync(path);
  if (stat.isDirectory()) throw new DstackError('FILE_KIND', `${path} is a folder, not a file`);
  if (!stat.isFile() && !(pipes && stat.isFIFO()))
    throw new DstackError('FILE_KIND', `${path} is not a file`);
  // A file of /proc has no size until it is read.
  if (stat.size > maxBytes) throw tooLarge(path, maxBytes);
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (;;) {
      const count = readSync(file, buffer, length, buffer.length - length, null);
      length += count;
      if (length > maxBytes) throw tooLarge(path, maxBytes);
      if (count === 0) return buffer.subarray(0, length);
    }
  } finally {
    closeSync(file);
  }
}

function tooLarge(path: string, maxBytes: number): DstackError {
  return new DstackError('FILE_TOO_LARGE', `${path} has more than ${maxBytes} bytes`);
}
