/** Host volumes, as commands write to them. */
import { access, constants, mkdir } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { dropDrafts } from '../../lib/daemon/durable-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/**
 * Makes the folders that files are put into. Of several volumes all are prepared before any is written to, so that one that cannot be
 * leaves nothing in another.
 * @throws FILE
 */
export async function prepareVolumes(volumes: readonly string[], folders: readonly string[]): Promise<void> {
  for (const volume of volumes) await prepare(volume, folders);
}

async function prepare(volume: string, folders: readonly string[]): Promise<void> {
  try {
    // Step by step: Node's own `recursive` never ends where a folder cannot be made in one that is there, as in /proc.
    const steps = resolve(volume).split(sep);
    for (const at of steps.keys()) await makeFolder(steps.slice(0, at + 1).join(sep) || sep);
    for (const folder of folders.map((name) => join(volume, name))) {
      await makeFolder(folder);
      await access(folder, constants.W_OK);
      dropDrafts(folder);
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('FILE', `cannot write to ${volume} (--out): ${code}`, { cause });
  }
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}
