/**
 * Writes files that exist completely or not at all, whatever dies in between: the bytes go into a draft next to the file and
 * are flushed to disk, the draft is renamed to the file, and the folder is flushed (fsync(2), rename(2)). When a call returns,
 * the file is durable.
 *
 * A draft has the process id in its name, so that two writers of one file do not mix their bytes. `dropDrafts` removes what
 * killed processes left behind: call it before using a folder.
 */
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const DRAFT = /\.\d+\.draft$/;
/** A draft that has not been written to for this long no longer has a writer. Milliseconds. */
const ABANDONED_AFTER = 60_000;

/** Replaces or creates `path`, with exactly this mode, whatever the umask. @throws the file system's error */
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

/**
 * Creates `path` with this content and mode, whole or not at all, and never in the place of what is there: of two that make it at once, one does.
 * @throws the file system's error; EEXIST where something is there
 */
export function createDurably(path: string, content: Uint8Array | string, mode: number): void {
  const draft = draftOf(path);
  try {
    writeFileSync(draft, content, { flag: 'wx', mode });
    sync(draft, mode);
    linkSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
  syncFolderOf(path);
}

/** The same for content written by other means, such as a copy: `fill` creates the draft, with its mode. */
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

/** Removes abandoned drafts from a folder. */
export function dropDrafts(folder: string, now = Date.now()): void {
  for (const name of readdirSync(folder).filter((name) => DRAFT.test(name))) {
    const path = join(folder, name);
    // Its writer may finish at this very moment.
    const modified = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now;
    if (now - modified > ABANDONED_AFTER) rmSync(path, { force: true });
  }
}

/** The draft's name. A draft of an earlier process with the same id has no writer, and is removed. */
function draftOf(path: string): string {
  const draft = `${path}.${process.pid}.draft`;
  rmSync(draft, { force: true });
  return draft;
}

function publish(draft: string, path: string, mode?: number): void {
  sync(draft, mode);
  renameSync(draft, path);
  syncFolderOf(path);
}

function sync(draft: string, mode?: number): void {
  const file = openSync(draft, 'r');
  try {
    if (mode !== undefined) fchmodSync(file, mode);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function syncFolderOf(path: string): void {
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
