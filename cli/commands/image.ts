/** `image …`: what the image is made of, whether it can be made again, what it measures. Needs no network of VMs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Release } from '../../guest/image/archive-index.ts';
import {
  checkMirror,
  explainReplacements,
  fetchIndices,
  fetchMirror,
  replacedPackages,
  type SuiteIndex,
} from '../../guest/image/local-mirror.ts';
import { lockFile, updateLock } from '../../guest/image/lock.ts';
import { findMirrors, mirrorsAt } from '../../guest/image/mirrors.ts';
import { type LockedPackage, parseLock } from '../../guest/image/packages.ts';
import { print } from '../../lib/framework/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Command } from '../command.ts';
import { repository } from '../repository.ts';
import { diffCommand } from './image-diff.ts';
import { measureCommand } from './image-measure.ts';
import { reproduceCommand } from './image-reproduce.ts';
import { tablesCommand } from './image-tables.ts';

const mirrorOption = {
  value: 'DIR',
  help: 'the local mirror',
  default: join(repository, 'build/mirror'),
};
const snapshotOption = {
  value: 'URL',
  help: 'a dated copy of the archive instead of this machine’s mirror; it ends in /debian or /debian/DATE',
};

const fetch: Command = {
  name: 'image fetch',
  summary: 'mirrors exactly the locked packages, with the signed indices that name them; says who signed',
  options: {
    mirror: mirrorOption,
    snapshot: snapshotOption,
    check: { help: 'fetch nothing: verify the mirror that is there, without a network' },
  },
  async run(args) {
    const lock = parseLock(readFileSync(lockFile, 'utf8'));
    const folder = args.text('mirror');
    const indices = args.flag('check')
      ? await checkMirror(lock, folder)
      : await fetchMirror(lock, mirrorsFrom(args.optional('snapshot')), folder, packageCache, print);
    report(indices);
    print('', `${describeLock(lock)} in ${folder}, each with the locked SHA-256`);
    print(`  to build from it: DSTACK_MIRROR=${pathToFileURL(join(folder, 'debian'))} ./build_vm.sh`);
    const replaced = replacedPackages(lock, indices);
    if (replaced.length > 0) throw new DstackError('PACKAGE_REPLACED', explainReplacements(replaced));
    print('  every one of them is named by a signed index');
  },
};

const lock: Command = {
  name: 'image lock',
  summary: 'compares the lock with Debian’s signed indices of today; with --update, moves on to them',
  options: {
    update: { help: 'write packages.lock anew: an image with another measurement' },
    snapshot: snapshotOption,
    mirror: mirrorOption,
  },
  async run(args) {
    const mirrors = mirrorsFrom(args.optional('snapshot'));
    const locked = parseLock(readFileSync(lockFile, 'utf8'));
    const indices = await fetchIndices(mirrors, args.text('mirror'), print);
    report(indices);
    const replaced = replacedPackages(locked, indices);
    if (!args.flag('update')) {
      if (replaced.length > 0) throw new DstackError('PACKAGE_REPLACED', explainReplacements(replaced));
      print('', `${describeLock(locked)}: every one of them is named by a signed index`);
      return;
    }
    const { removed, added, packages } = await updateLock(mirrors);
    print();
    for (const line of removed) print(`- ${line}`);
    for (const line of added) print(`+ ${line}`);
    print(`${lockFile}: ${packages} packages, ${removed.length} lines gone, ${added.length} new`);
    if (added.length + removed.length > 0) {
      print('Build and measure the image again: the network’s owner has to allow its new measurement.');
    }
  },
};

const packageCache = join(repository, '.cache/debs');

function mirrorsFrom(snapshot: string | undefined) {
  return snapshot === undefined ? findMirrors() : mirrorsAt(snapshot);
}

function describeLock(lock: readonly LockedPackage[]): string {
  const files = new Map(lock.map((locked) => [locked.sha256, locked.size]));
  const bytes = [...files.values()].reduce((sum, size) => sum + size, 0);
  return `${files.size} packages, ${Math.round(bytes / 1e6)} MB`;
}

function report(indices: readonly SuiteIndex[]): void {
  print();
  for (const { release, packages } of indices) {
    print(`${release.suite.padEnd(18)} ${day(release.date)}  ${packages.length} packages${expired(release)}`);
    for (const { fingerprint, name } of release.signers) print(`  signed by ${fingerprint} ${name}`);
  }
}

/** Not an error: the lock's hashes decide. But who moves the lock on should know. */
function expired({ validUntil }: Release): string {
  if (validUntil === undefined || validUntil.getTime() >= Date.now()) return '';
  return `  EXPIRED ${day(validUntil)}: this mirror is behind`;
}

function day(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

export const imageCommands: readonly Command[] = [
  fetch,
  lock,
  reproduceCommand,
  measureCommand,
  tablesCommand,
  diffCommand,
];
