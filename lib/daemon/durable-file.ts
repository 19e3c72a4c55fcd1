/**
 * Files that are there whole or not at all, whatever dies meanwhile: the bytes go into a draft beside the file, reach the
 * disk, and take the file's name; then the folder reaches the disk too (fsync(2), rename(2)). What returns is durable.
 *
 * A draft is named by its process, so that two writers of one file do not mix their bytes. What a killed process leaves
 * behind, `dropDrafts` removes: call it when a folder is taken into use.
 */
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const DRAFT = /\.\d+\.draft$/;
/** A draft that nothing was written to for so long has no writer any more. Milliseconds. */
const ABANDONED_AFTER = 60_000;

/** Replaces `path`, or makes it. The mode is set as it is given, whatever the umask. @throws the file system's error */
export function writeDurably(path: string, content: Uint8Array | string, mode = 0o644): void {
  const draft = draftOf(path);
  try {
    writeFileSync(draft, content, { flag: 'wx', mode });
    publish(draft, path, mode);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** The same for what something else writes, such as a copy: `fill` makes the file of that name, with its mode. */
export async function fillDurably(path: string, fill: (draft: string) => Promise<void>): Promise<void> {
  const draft = draftOf(path);
  try {
    await fill(draft);
    publish(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** Removes the drafts in a folder that nobody writes to any more. */
export function dropDrafts(folder: string, now = Date.now()): void {
  for (const name of readdirSync(folder).filter((name) => DRAFT.test(name))) {
    const path = join(folder, name);
    // Its writer may be done in this moment.
    const modified = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now;
    if (now - modified > ABANDONED_AFTER) rmSync(path, { force: true });
  }
}

/** The draft's name, free to be used: one of an earlier process with the same id has no writer. */
function draftOf(path: string): string {
  const draft = `${path}.${process.pid}.draft`;
  rmSync(draft, { force: true });
  return draft;
}

function publish(draft: string, path: string, mode?: number): void {
  const file = openSync(draft, 'r');
  try {
    if (mode !== undefined) fchmodSync(file, mode);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
