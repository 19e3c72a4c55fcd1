/**
 * Which files of an app have changed. They are looked at a few times a second: the system's own notices of changes say nothing on network and shared folders, lose a
 * folder that is deleted and made again, and want one watch for each folder of node_modules. An app has some dozen files.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { printFailure } from '../../lib/daemon/terminal.ts';

/** Between two looks, milliseconds. A change counts once two looks in a row see the same: editors write more than once. */
const LOOK_MS = 250;
/** Folders whose changes mean nothing to what runs. */
const IGNORED: readonly string[] = ['node_modules', 'test', 'vendor'];

/**
 * @param told which folders of the app have changed, by their names, `.` for the app's own; one telling after the other, and what was told in vain is told again with the next
 * @param known the sources that run already
 * @returns ends it
 */
export function onChange(
  folder: string,
  told: (changed: ReadonlySet<string>) => Promise<void>,
  known = sources(folder),
): () => void {
  let seen = known;
  let pending: ReadonlySet<string> = new Set();
  let isTelling = false;

  const look = async (): Promise<void> => {
    const now = sources(folder);
    const isStill = differing(seen, now).size === 0;
    seen = now;
    if (!isStill) return;
    const changed = differing(known, now);
    if (changed.size === 0) return;
    known = now;
    pending = new Set([...pending, ...changed]);
    await told(pending);
    pending = new Set();
  };
  const timer = setInterval(() => {
    if (isTelling) return;
    isTelling = true;
    // What does not compile is told, and the app goes on as it was.
    look()
      .catch((error) => printFailure('dstack dev', error))
      .finally(() => {
        isTelling = false;
      });
  }, LOOK_MS);
  return () => clearInterval(timer);
}

/** Of each source file what changes with it, by its path in the app's folder. */
export function sources(folder: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  // A link to a folder above would be walked for ever.
  const walked = new Set<number>();
  const walk = (at: string): void => {
    const inode = statSync(join(folder, at), { throwIfNoEntry: false })?.ino;
    if (inode === undefined || walked.has(inode)) return;
    walked.add(inode);
    for (const name of namesIn(join(folder, at))) {
      if (name.startsWith('.') || (at === '' && IGNORED.includes(name))) continue;
      const path = join(at, name);
      // Gone since it was listed, or a link to nothing.
      const state = statSync(join(folder, path), { throwIfNoEntry: false });
      if (state?.isDirectory()) walk(path);
      else if (state?.isFile() && /\.(ts|sol)$/.test(name))
        found.set(path, `${state.mtimeMs} ${state.size} ${state.ino}`);
    }
  };
  walk('');
  return found;
}

/** None of a folder that was deleted meanwhile. */
function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** The folders of what differs, `.` for the app's own. */
export function differing(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): Set<string> {
  const paths = [...new Set([...one.keys(), ...other.keys()])];
  const differs = paths.filter((path) => one.get(path) !== other.get(path));
  return new Set(differs.map((path) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : '.')));
}
