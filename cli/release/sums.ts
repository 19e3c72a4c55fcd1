/** `SHA256SUMS` of a release, as `sha256sum --check` takes it: every file of the folder, and none that is not there. */
import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { DstackError } from '../../lib/protocol/errors.ts';

export const SUMS = 'SHA256SUMS';
export const SIGNATURE = 'SHA256SUMS.sig';
/** No folders, nothing hidden, and nothing that a shell or a terminal would take for something else. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const LINE = /^([0-9a-f]{64}) {2}(.+)$/;
const MAX_FILES = 100;
/** As image.json has it. */
const MAX_FILE_BYTES = 2 ** 32;
export const SUMS_MAX_BYTES = MAX_FILES * 200;

/** By the names of the files, in their order; 64 hex digits. */
export type Sums = ReadonlyMap<string, string>;

export const formatSums = (sums: Sums): string =>
  [...sums].map(([name, sum]) => `${sum}  ${name}\n`).join('');

/** @throws RELEASE_SUMS for anything but what `formatSums` writes */
export function parseSums(text: string): Sums {
  const sums = new Map<string, string>();
  for (const line of text.replace(/\n$/, '').split('\n')) {
    const [, sum, name] = LINE.exec(line) ?? [];
    if (sum === undefined || name === undefined || !NAME.test(name) || sums.has(name))
      throw new DstackError(
        'RELEASE_SUMS',
        `${SUMS} has a line that is not of a file of its own: ${line.slice(0, 200)}`,
      );
    sums.set(name, sum);
  }
  if (sums.size > MAX_FILES)
    throw new DstackError('RELEASE_SUMS', `${SUMS} has more than ${MAX_FILES} files`);
  return sums;
}

/** Of every file of a folder. @param most bytes that one may have @throws RELEASE_FILE */
export async function sumsOf(folder: string, most = MAX_FILE_BYTES): Promise<Sums> {
  const sums = new Map<string, string>();
  for (const name of filesOf(folder, most)) {
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name)), hash);
    sums.set(name, hash.digest('hex'));
  }
  return sums;
}

/** In their order, without the sums and their signature. @throws RELEASE_FILE */
function filesOf(folder: string, most = MAX_FILE_BYTES): string[] {
  const names = readdirSync(folder).filter((name) => name !== SUMS && name !== SIGNATURE);
  for (const name of names) {
    const stat = lstatSync(join(folder, name));
    // A link would be another file for whoever gets the release.
    if (!NAME.test(name) || !stat.isFile())
      throw new DstackError(
        'RELEASE_FILE',
        `${JSON.stringify(name)} has no place in a release: plain files only`,
      );
    // An archive may hold one of exabytes with nothing in it, which is read all the same.
    if (stat.size > most)
      throw new DstackError(
        'RELEASE_FILE',
        `${name} has ${stat.size} bytes: no file of a release has more than ${most}`,
      );
  }
  return names.sort();
}

/** @throws RELEASE_FILE naming each file that is missing, too many, or other than its sum */
export async function requireSums(folder: string, said: Sums): Promise<void> {
  const refuse = (details: readonly string[]): void => {
    if (details.length > 0)
      throw new DstackError('RELEASE_FILE', `${folder} is not what ${SUMS} lists`, { details });
  };
  const names = new Set(filesOf(folder));
  // Before anything is read: what nobody signed is not worth it.
  refuse([
    ...[...said.keys()].filter((name) => !names.has(name)).map((name) => `${name}: missing`),
    ...[...names].filter((name) => !said.has(name)).map((name) => `${name}: ${SUMS} does not know it`),
  ]);
  const found = await sumsOf(folder);
  refuse(
    [...said]
      .filter(([name, sum]) => found.get(name) !== sum)
      .map(([name]) => `${name}: is not the file that was released`),
  );
}
