/** Just enough of ELF (System V ABI, 64-bit little-endian) to find what a program needs to run. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';

const programLoad = 1;
const programDynamic = 2;
const programInterpreter = 3;
const tagNeeded = 1n;
const tagStringTable = 5n;
const tagRunPath = 29n;

/** What a program or library names: its loader (absolute path) and libraries (bare names). */
export interface ElfNeeds {
  readonly interpreter?: string;
  readonly libraries: readonly string[];
  readonly runPath: readonly string[];
}

/** What an ELF file needs, from its bytes; undefined when it is not a 64-bit ELF file. */
export function elfNeeds(bytes: Buffer): ElfNeeds | undefined {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    return undefined;
  }
  const tableOffset = Number(bytes.readBigUInt64LE(32));
  const entrySize = bytes.readUInt16LE(54);
  const entries = Array.from({ length: bytes.readUInt16LE(56) }, (_, index) => {
    const at = tableOffset + index * entrySize;
    return {
      type: bytes.readUInt32LE(at),
      offset: Number(bytes.readBigUInt64LE(at + 8)),
      address: Number(bytes.readBigUInt64LE(at + 16)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
    };
  });
  const interpreter = entries.find((entry) => entry.type === programInterpreter);
  const dynamic = entries.find((entry) => entry.type === programDynamic);
  const tags: [bigint, number][] = [];
  for (let at = dynamic?.offset ?? 0; dynamic && at < dynamic.offset + dynamic.size; at += 16) {
    tags.push([bytes.readBigUInt64LE(at), Number(bytes.readBigUInt64LE(at + 8))]);
  }
  const stringsAddress = tags.find(([tag]) => tag === tagStringTable)?.[1] ?? 0;
  const segment = entries.find(
    (entry) =>
      entry.type === programLoad &&
      stringsAddress >= entry.address &&
      stringsAddress < entry.address + entry.size,
  );
  const strings = segment === undefined ? 0 : stringsAddress - segment.address + segment.offset;
  const stringsOf = (wanted: bigint) =>
    tags.filter(([tag]) => tag === wanted).map(([, at]) => cString(bytes, strings + at));
  return {
    ...(interpreter && { interpreter: cString(bytes, interpreter.offset) }),
    libraries: stringsOf(tagNeeded),
    runPath: stringsOf(tagRunPath).flatMap((path) => path.split(':')),
  };
}

/**
 * All libraries that `programs` (paths inside `root`) need, transitively, as paths inside `root`.
 * @throws DstackError LIBRARY_MISSING when one is not there.
 */
export function libraryClosure(root: string, programs: readonly string[]): string[] {
  const found = new Set<string>();
  const queue = [...programs];
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    const needs = elfNeeds(readFileSync(realpathSync(join(root, path))));
    if (needs === undefined) continue;
    const folders = [
      ...needs.runPath.map((folder) => folder.replace('$ORIGIN', dirname(path)).replace(/^\//, '')),
      'usr/lib/x86_64-linux-gnu',
      'usr/lib/x86_64-linux-gnu/systemd',
      'usr/lib64',
    ];
    // The loader is named by its full path, which has to exist as written: /lib64 is usr/lib64.
    if (needs.interpreter !== undefined) found.add(join('usr', needs.interpreter));
    for (const name of needs.libraries) {
      const library = folders.map((folder) => join(folder, name)).find((at) => existsSync(join(root, at)));
      if (library === undefined) {
        throw new DstackError('LIBRARY_MISSING', `${path} needs ${name}, which no locked package holds`);
      }
      if (found.has(library)) continue;
      found.add(library);
      queue.push(library);
    }
  }
  return [...found].toSorted();
}

function cString(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}
