/**
 * Everything that a host can see of its VMs while they run, looked through once: arguments and environments, open files,
 * whole state folders, and what every listening socket says when it is asked. Guest memory is not included: hiding it
 * is the processor's job, and under emulation nobody does.
 */
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { probe } from './probe.ts';
import { descendants, type Listener, listeners, openFiles, wordsOf } from './processes.ts';
import type { Search } from './search.ts';

export interface HostView {
  readonly processes: number;
  readonly files: readonly string[];
  readonly listeners: readonly Listener[];
}

/** Feeds all of it to the search. @param folders looked through whole, beside what the processes have open */
export async function scanHost(search: Search, folders: readonly string[]): Promise<HostView> {
  const processes = descendants();
  for (const process of processes) {
    const words = whileItRuns(() => wordsOf(process));
    if (words === undefined) continue;
    const { cmdline, environ } = words;
    search.bytes(`the arguments of ${process.pid}`, cmdline);
    search.bytes(`the environment of ${process.pid}`, environ);
  }
  const open = processes
    .flatMap((one) => whileItRuns(() => openFiles(one)) ?? [])
    .filter((path) => !path.includes('/node_modules/'));
  const files = [...new Set([...folders.flatMap(filesUnder), ...open.map((path) => resolve(path))])];
  await scanFiles(search, files);

  const found = processes.flatMap((one) => whileItRuns(() => listeners(one)) ?? []);
  await Promise.all(
    found.map(async (listener) => {
      search.bytes(`what ${listener.kind} ${listener.at} says`, await probe(listener));
    }),
  );
  return { processes: processes.length, files, listeners: found };
}

/** Feeds files to the search; one that is gone by now was a temporary file. */
export async function scanFiles(search: Search, files: readonly string[]): Promise<void> {
  for (const file of files) {
    try {
      await search.file(file);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
}

/** Undefined for a process that ended meanwhile: a command of a relay's, or a thread that became none. */
function whileItRuns<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

const isGone = (error: unknown): boolean =>
  ['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '');

export function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => resolve(join(parentPath, name)));
}
