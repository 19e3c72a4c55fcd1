/**
 * Debian's signed indices: which packages a suite held at a date, and which of Debian's keys say so. A suite's `InRelease` is
 * signed and names the SHA-256 of its `Packages`, which names each package's. Source: the Debian wiki's
 * DebianRepository/Format.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { aptHelper, run } from './run.ts';
import { readSigned, type Signer } from './signed-file.ts';

/** Debian's keys, from the package debian-archive-keyring of this machine. */
export const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Where the index of all our packages lies within a suite. */
export const packagesPath = 'main/binary-amd64/Packages.xz';

const MAX_RELEASE_BYTES = 8 * 2 ** 20;

/** What a suite's `InRelease` says. */
export interface Release {
  readonly suite: string;
  readonly date: Date;
  /** Absent for a stable release, which is signed once. */
  readonly validUntil?: Date;
  readonly signers: readonly Signer[];
  /** SHA-256 (hex) and size of the suite's files by path. */
  readonly files: ReadonlyMap<string, { readonly sha256: string; readonly size: number }>;
}

/** A package as `Packages` lists it; `path` is below the archive. */
export interface IndexedPackage {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly path: string;
}

/**
 * Verifies and reads an `InRelease` file.
 * @throws DstackError KEYRING_MISSING, TOOL_MISSING (gpgv), INDEX_SIGNATURE when no key of the keyring signed it or a
 * signature is bad or expired or its key has expired, INDEX_INVALID when the signed text is not an index of `suite`.
 */
export async function readRelease(file: string, suite: string, keyring = debianKeyring): Promise<Release> {
  if (!existsSync(keyring)) {
    throw new DstackError('KEYRING_MISSING', `${keyring} is missing: install debian-archive-keyring`);
  }
  const { text, signers } = await readSigned(file, keyring).catch((error: unknown) => {
    if (codeOf(error) !== 'SIGNATURE_INVALID') throw error;
    throw new DstackError(
      'INDEX_SIGNATURE',
      `${(error as Error).message}. Take another mirror, or a newer debian-archive-keyring.`,
      { cause: error },
    );
  });
  if (text.length > MAX_RELEASE_BYTES) throw invalid(file, `it has ${text.length} bytes`);
  return { ...parseRelease(text.toString('utf8'), file, suite), signers };
}

/**
 * An expired index may be an old one that the mirror, or somebody in front of it, has kept back: nothing new can be learnt from it.
 * @throws DstackError INDEX_EXPIRED
 */
export function requireCurrent({ suite, validUntil }: Release, now = new Date()): void {
  if (validUntil === undefined || validUntil.getTime() >= now.getTime()) return;
  throw new DstackError(
    'INDEX_EXPIRED',
    `the index of ${suite} expired at ${validUntil.toISOString()}: this mirror is out of date, or shows an old state. Take another mirror, or name a dated copy with --snapshot.`,
  );
}

/** @throws DstackError INDEX_INVALID */
function parseRelease(text: string, file: string, suite: string): Omit<Release, 'signers'> {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1];
  if (field('Codename') !== suite && field('Suite') !== suite) {
    throw invalid(file, `it is the index of ${field('Codename')}, not of ${suite}`);
  }
  const date = dateOf(field('Date'), file);
  const until = field('Valid-Until');
  const files = new Map<string, { sha256: string; size: number }>();
  const section = text.split(/^SHA256:\s*$/m)[1];
  for (const line of (section ?? '').split('\n').slice(1)) {
    if (!line.startsWith(' ')) break;
    const match = /^ ([0-9a-f]{64}) +(\d{1,12}) (\S+)$/.exec(line);
    if (match === null) throw invalid(file, `it has the line "${line}"`);
    files.set(match[3]!, { sha256: match[1]!, size: Number(match[2]) });
  }
  if (!files.has(packagesPath)) throw invalid(file, `it does not name ${packagesPath}`);
  return { suite, date, ...(until !== undefined && { validUntil: dateOf(until, file) }), files };
}

/**
 * Reads the suite's `Packages`, after comparing it with what the signed release says.
 * @throws DstackError INDEX_HASH, INDEX_INVALID
 */
export async function readPackages(file: string, release: Release): Promise<IndexedPackage[]> {
  const bytes = await readFile(file);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (sha256 !== release.files.get(packagesPath)?.sha256) {
    throw new DstackError(
      'INDEX_HASH',
      `${file} is not the file that the signed index of ${release.suite} names: it was changed, or the mirror is being updated. Fetch again.`,
    );
  }
  return parsePackages(await run(aptHelper, ['cat-file', file]), file);
}

/** @throws DstackError INDEX_INVALID */
export function parsePackages(text: string, file: string): IndexedPackage[] {
  return text
    .split('\n\n')
    .filter((stanza) => stanza.trim() !== '')
    .map((stanza) => {
      const field = (name: string) => {
        const value = new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
        if (value === undefined) throw invalid(file, `a package has no ${name}`);
        return value;
      };
      return {
        name: field('Package'),
        version: field('Version'),
        sha256: field('SHA256'),
        path: field('Filename'),
      };
    });
}

function dateOf(text: string | undefined, file: string): Date {
  const date = new Date(text ?? '');
  if (Number.isNaN(date.getTime())) throw invalid(file, `its date is "${text}"`);
  return date;
}

function invalid(file: string, why: string): DstackError {
  return new DstackError('INDEX_INVALID', `${file} is not a usable index: ${why}`);
}
