/** Files with keys: made once and for their owner alone, and read only while nobody else can. */
import { lstatSync } from 'node:fs';
import { DstackError, hasCode } from '../protocol/errors.ts';
import { readBounded } from './bounded-file.ts';
import { createDurably } from './durable-file.ts';

const MODE = 0o600;
/** Keys are small. */
const MAX_BYTES = 4096;

/**
 * Makes a file with a key, unless one is there: that one is left as it is. Of two processes that do so at once, both have the key of the first.
 * @returns whether it was made here
 * @throws the file system's own errors
 */
export function makePrivate(path: string, content: Uint8Array | string): boolean {
  try {
    createDurably(path, content, MODE);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * What is in a file with a key, as text.
 * @throws KEY_FILE for what is no file of this user's, or can be read by others; the file system's own errors
 */
export function readPrivate(path: string): string {
  const { mode, uid } = lstatSync(path);
  if ((mode & 0o077) !== 0)
    throw new DstackError(
      'KEY_FILE',
      `others can read ${path}, or it is a link: chmod 600, or make a new key`,
    );
  if (uid !== process.geteuid!()) throw new DstackError('KEY_FILE', `${path} is another user's`);
  try {
    return readBounded(path, { maxBytes: MAX_BYTES }).toString('utf8');
  } catch (cause) {
    if (!hasCode(cause, 'FILE_KIND') && !hasCode(cause, 'FILE_TOO_LARGE')) throw cause;
    throw new DstackError('KEY_FILE', (cause as Error).message, { cause });
  }
}
