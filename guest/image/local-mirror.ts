/**
 * A local mirror: exactly the locked packages, laid out as Debian lays out its archive, with the signed indices that name
 * them. A build works from it without a network, and an auditor sees in it who signed what went into the image.
 *
 *     MIRROR/debian/dists/trixie/InRelease
 *     MIRROR/debian/dists/trixie/main/binary-amd64/Packages.xz
 *     MIRROR/debian/pool/...          MIRROR/debian-security/...
 */
import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  type IndexedPackage,
  packagesPath,
  type Release,
  readPackages,
  readRelease,
} from './archive-index.ts';
import { cachedPath, downloadFile, downloadPackages, sha256File } from './download.ts';
import type { Mirrors } from './mirrors.ts';
import { suites } from './package-sets.ts';
import type { ArchiveName, LockedPackage } from './packages.ts';

/** A suite at the time its index was signed. */
export interface SuiteIndex {
  readonly archive: ArchiveName;
  readonly release: Release;
  readonly packages: readonly IndexedPackage[];
}

/** A locked package that no index lists any more, and what they list instead. */
export interface Replacement {
  readonly locked: LockedPackage;
  readonly now: readonly { readonly version: string; readonly suite: string }[];
}

/**
 * Brings `folder` up to date: the packages by the lock's hashes, the indices by Debian's signatures.
 * `cache` is the build's package cache; the files are hard links, so that they take no extra space.
 * @throws DstackError PACKAGE_UNAVAILABLE, and those of `readRelease` and `readPackages`.
 */
export async function fetchMirror(
  lock: readonly LockedPackage[],
  mirrors: Mirrors,
  folder: string,
  cache: string,
  progress: (message: string) => void,
): Promise<SuiteIndex[]> {
  const indices = await fetchIndices(mirrors, folder, progress);
  await downloadPackages(lock, cache, () => mirrors, progress);
  // Remove what an older lock left behind.
  for (const { archive } of suites) await rm(join(folder, archive, 'pool'), { recursive: true, force: true });
  for (const locked of lock) {
    const file = pathIn(folder, locked);
    await mkdir(dirname(file), { recursive: true });
    await link(cachedPath(cache, locked), file).catch(() => copyFile(cachedPath(cache, locked), file));
  }
  return indices;
}

/** Fetches the mirrors' current indices into `folder` and verifies them. */
export async function fetchIndices(
  mirrors: Mirrors,
  folder: string,
  progress: (message: string) => void,
  keyring?: string,
): Promise<SuiteIndex[]> {
  const indices: SuiteIndex[] = [];
  for (const { suite, archive } of suites) {
    progress(`index of ${suite}`);
    indices.push(await fetchIndex(suite, archive, mirrors[archive], folder, keyring));
  }
  return indices;
}

/**
 * Verifies a mirror that is there, without a network: every signature, every index, every package's hash.
 * @throws DstackError MIRROR_INCOMPLETE, PACKAGE_HASH, and those of `readRelease` and `readPackages`.
 */
export async function checkMirror(
  lock: readonly LockedPackage[],
  folder: string,
  keyring?: string,
): Promise<SuiteIndex[]> {
  const indices: SuiteIndex[] = [];
  for (const { suite, archive } of suites) {
    const dists = join(folder, archive, 'dists', suite);
    indices.push({ archive, ...(await readIndex(dists, suite, keyring)) });
  }
  await checkPackages(lock, folder);
  return indices;
}

/** @throws DstackError MIRROR_INCOMPLETE, PACKAGE_HASH naming the first package that is missing or not the locked one. */
export async function checkPackages(lock: readonly LockedPackage[], folder: string): Promise<void> {
  for (const locked of lock) {
    const file = pathIn(folder, locked);
    if (!existsSync(file)) throw incomplete(file);
    if ((await sha256File(file)) === locked.sha256) continue;
    throw new DstackError(
      'PACKAGE_HASH',
      `${file} is not the locked ${locked.name} ${locked.version}: remove it, and fetch again`,
    );
  }
}

/** The locked packages that none of the indices names with the locked hash. */
export function replacedPackages(
  lock: readonly LockedPackage[],
  indices: readonly SuiteIndex[],
): Replacement[] {
  const signed = new Set<string>();
  const byName = new Map<string, { version: string; suite: string }[]>();
  for (const { archive, release, packages } of indices) {
    for (const { name, version, sha256 } of packages) {
      signed.add(`${archive} ${name} ${sha256}`);
      byName.set(name, [...(byName.get(name) ?? []), { version, suite: release.suite }]);
    }
  }
  const unique = new Map(lock.map((locked) => [locked.sha256, locked])).values();
  return [...unique]
    .filter(({ archive, name, sha256 }) => !signed.has(`${archive} ${name} ${sha256}`))
    .map((locked) => ({ locked, now: byName.get(locked.name) ?? [] }));
}

/** A sentence for each, and what to do about it. */
export function explainReplacements(replaced: readonly Replacement[]): string {
  const lines = replaced.map(({ locked, now }) => {
    const instead = now.map(({ version, suite }) => `${version} in ${suite}`).join(', ');
    return `  ${locked.name} ${locked.version}: ${instead === '' ? 'gone' : `now ${instead}`}`;
  });
  return `Debian has replaced ${replaced.length} of the locked packages:
${lines.join('\n')}
To build the image as locked, use the indices and packages of a day on which they were current:
  npx dstack image fetch --snapshot URL   (a dated copy of the archive, as Debian's snapshot service has them)
To move on to today's packages, and so to an image with another measurement, which the network's owner has to allow:
  npx dstack image lock --update`;
}

async function fetchIndex(
  suite: string,
  archive: ArchiveName,
  mirror: string,
  folder: string,
  keyring?: string,
): Promise<SuiteIndex> {
  const dists = join(folder, archive, 'dists', suite);
  const fresh = `${dists}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(join(fresh, dirname(packagesPath)), { recursive: true });
  await downloadFile(`${mirror}/dists/${suite}/InRelease`, join(fresh, 'InRelease'));
  const release = await readRelease(join(fresh, 'InRelease'), suite, keyring);
  await downloadFile(`${mirror}/dists/${suite}/${packagesPath}`, join(fresh, packagesPath));
  const packages = await readPackages(join(fresh, packagesPath), release);
  await rm(dists, { recursive: true, force: true });
  await rename(fresh, dists);
  return { archive, release, packages };
}

/** The files of a suite that are kept, below its folder in `dists`. */
export const indexFiles = ['InRelease', packagesPath] as const;

/**
 * Reads and verifies a suite's files.
 * @throws DstackError MIRROR_INCOMPLETE, and those of `readRelease` and `readPackages`.
 */
export async function readIndex(
  dists: string,
  suite: string,
  keyring?: string,
): Promise<Omit<SuiteIndex, 'archive'>> {
  for (const name of indexFiles) {
    if (!existsSync(join(dists, name))) throw incomplete(join(dists, name));
  }
  const release = await readRelease(join(dists, 'InRelease'), suite, keyring);
  return { release, packages: await readPackages(join(dists, packagesPath), release) };
}

/** The lock writes pool paths as URLs do. */
function pathIn(folder: string, { archive, path }: LockedPackage): string {
  return join(folder, archive, decodeURIComponent(path));
}

function incomplete(file: string): DstackError {
  return new DstackError('MIRROR_INCOMPLETE', `there is no ${file}: npx dstack image fetch`);
}
