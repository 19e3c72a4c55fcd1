/**
 * `packages.lock`: every Debian package that the image and the tools are made of, one to a line:
 *
 *     root name version sha256 size archive pool-path
 *
 * sorted by root and name, so that an update is a readable diff. The lock, not a mirror, decides what is in the image.
 */
import { createHash } from 'node:crypto';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type RootName, rootNames } from './package-sets.ts';

/** The two archives of Debian: the main one and the security archive. */
export type ArchiveName = 'debian' | 'debian-security';

/** One locked package. `size` in bytes; `path` is below the archive, starting with `pool/`. */
export interface LockedPackage {
  readonly root: RootName;
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly size: number;
  readonly archive: ArchiveName;
  readonly path: string;
}

const header = `# Written by \`npx dstack image lock --update\`. Changing a line changes the image's measurement.
# root name version sha256 size archive pool-path
`;

const namePattern = /^[a-z0-9][a-z0-9+.-]+$/;
const versionPattern = /^[0-9A-Za-z.+~:-]+$/;
const sha256Pattern = /^[0-9a-f]{64}$/;
/** As apt writes it in a URL. Of the characters that may be percent-encoded, only those that a Debian file name can contain: plus, tilde and colon. */
const pathPattern = /^pool\/(?:[A-Za-z0-9+._~/-]|%2b|%7e|%3a)+\.deb$/;

/**
 * @throws DstackError LOCK_INVALID naming the line, for anything but well-formed, sorted, unique lines.
 */
export function parseLock(text: string): LockedPackage[] {
  const packages: LockedPackage[] = [];
  let previous = '';
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const parsed = parseLine(line, index + 1);
    const key = `${parsed.root} ${parsed.name}`;
    if (key <= previous) throw invalid(index + 1, `"${key}" is a duplicate or out of order`);
    previous = key;
    packages.push(parsed);
  }
  if (packages.length === 0) throw new DstackError('LOCK_INVALID', 'packages.lock names no package');
  return packages;
}

/** The lock's text; the inverse of `parseLock`. */
export function formatLock(packages: readonly LockedPackage[]): string {
  return `${header}${formatLines(packages)}`;
}

/** SHA-256 (hex) of a root's lines: the key under which what was built from them is cached. */
export function lockHash(packages: readonly LockedPackage[], root: RootName): string {
  return createHash('sha256')
    .update(formatLines(packagesOf(packages, root)))
    .digest('hex');
}

function formatLines(packages: readonly LockedPackage[]): string {
  return packages
    .toSorted((a, b) => compare(`${a.root} ${a.name}`, `${b.root} ${b.name}`))
    .map((p) => `${[p.root, p.name, p.version, p.sha256, p.size, p.archive, p.path].join(' ')}\n`)
    .join('');
}

export function packagesOf(packages: readonly LockedPackage[], root: RootName): LockedPackage[] {
  return packages.filter((p) => p.root === root);
}

/** The roots whose packages are in the image. The tools are only used to make it. */
function rootsOf(flavour: Flavour): RootName[] {
  return flavour === 'production' ? ['guest', 'kernel', 'firmware'] : ['guest', 'kernel'];
}

export function packagesIn(packages: readonly LockedPackage[], flavour: Flavour): LockedPackage[] {
  return rootsOf(flavour).flatMap((root) => packagesOf(packages, root));
}

/** `lockHash` of image.json, hex: what the lock says of the packages in an image. */
export function imageLockHash(packages: readonly LockedPackage[], flavour: Flavour): string {
  const hashes = rootsOf(flavour).map((root) => lockHash(packages, root));
  return createHash('sha256').update(hashes.join('')).digest('hex');
}

/**
 * The kernel's release as `uname -r` says it, from the name of the package that holds its image.
 * @throws DstackError LOCK_INVALID when the lock holds none or several.
 */
export function kernelRelease(packages: readonly LockedPackage[]): string {
  const releases = packagesOf(packages, 'kernel')
    .map((p) => /^linux-(?:binary|image)-(\d.*)$/.exec(p.name)?.[1])
    .filter((release) => release !== undefined);
  const [release] = releases;
  if (release === undefined || releases.length !== 1) {
    throw new DstackError('LOCK_INVALID', `packages.lock must hold one kernel image, not ${releases.length}`);
  }
  return release;
}

function parseLine(line: string, number: number): LockedPackage {
  const fields = line.split(' ');
  const [root, name, version, sha256, size, archive, path] = fields;
  if (fields.length !== 7) throw invalid(number, `it has ${fields.length} fields instead of 7`);
  if (!rootNames.includes(root as RootName)) throw invalid(number, `"${root}" is not a root`);
  if (!namePattern.test(name!)) throw invalid(number, `"${name}" is not a package name`);
  if (!versionPattern.test(version!)) throw invalid(number, `"${version}" is not a version`);
  if (!sha256Pattern.test(sha256!)) throw invalid(number, `"${sha256}" is not a SHA-256`);
  if (!/^[1-9]\d{0,9}$/.test(size!)) throw invalid(number, `"${size}" is not a size`);
  if (archive !== 'debian' && archive !== 'debian-security') {
    throw invalid(number, `"${archive}" is not an archive`);
  }
  if (!pathPattern.test(path!) || path!.split('/').some((part) => ['', '.', '..'].includes(part))) {
    throw invalid(number, `"${path}" is not the path of a package`);
  }
  return {
    root: root as RootName,
    name: name!,
    version: version!,
    sha256: sha256!,
    size: Number(size),
    archive,
    path: path!,
  };
}

/** In byte order and not the locale's, since two hosts must write the same file. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function invalid(number: number, why: string): DstackError {
  return new DstackError('LOCK_INVALID', `packages.lock, line ${number}: ${why}`);
}
