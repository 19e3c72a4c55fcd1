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

/** Of every file of a folder. @throws RELEASE_FILE */
export async function sumsOf(folder: string): Promise<Sums> {
  const names = readdirSync(folder).filter((name) => name !== SUMS && name !== SIGNATURE);
  const sums = new Map<string, string>();
  for (const name of names.sort()) {
    // A link would be another file for whoever gets the release.
    if (!NAME.test(name) || !lstatSync(join(folder, name)).isFile())
      throw new DstackError(
        'RELEASE_FILE',
        `${JSON.stringify(name)} has no place in a release: plain files only`,
      );
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name)), hash);
    sums.set(name, hash.digest('hex'));
  }
  return sums;
}

/** @throws RELEASE_FILE naming each file that is missing, too many, or other than its sum */
export async function requireSums(folder: string, said: Sums): Promise<void> {
  const found = await sumsOf(folder);
  const details = [
    ...[...said].filter(([name]) => !found.has(name)).map(([name]) => `${name}: missing`),
    ...[...said]
      .filter(([name, sum]) => found.has(name) && found.get(name) !== sum)
      .map(([name]) => `${name}: is not the file that was released`),
    ...[...found].filter(([name]) => !said.has(name)).map(([name]) => `${name}: ${SUMS} does not know it`),
  ];
  if (details.length > 0)
    throw new DstackError('RELEASE_FILE', `${folder} is not what ${SUMS} lists`, { details });
}
