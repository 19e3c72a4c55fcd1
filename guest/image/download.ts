/**
 * Fetches locked packages into `.cache/debs/<sha256>.deb`. A file gets its name only after it was checked.
 *
 * apt's own downloader does the transfer, so that this machine's proxies and credentials apply; the lock's SHA-256
 * decides, whatever the mirror says.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream, createWriteStream, existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Mirrors } from './mirrors.ts';
import type { LockedPackage } from './packages.ts';
import { aptHelper, run } from './run.ts';

const parallel = 4;
const packagesPerCall = 12;

/** Path of a locked package in the cache, downloaded or not. */
export function cachedPath(cache: string, locked: LockedPackage): string {
  return join(cache, `${locked.sha256}.deb`);
}

/**
 * Makes sure that every package is in the cache. Returns how many bytes were downloaded.
 * @throws DstackError PACKAGE_UNAVAILABLE naming the packages that the mirror no longer has.
 */
export async function downloadPackages(
  packages: readonly LockedPackage[],
  cache: string,
  findMirrors: () => Mirrors,
  progress: (message: string) => void,
): Promise<number> {
  await mkdir(cache, { recursive: true });
  const unique = [...new Map(packages.map((p) => [p.sha256, p])).values()];
  const missing = unique.filter((p) => !existsSync(cachedPath(cache, p)));
  if (missing.length === 0) return 0;
  const total = missing.reduce((sum, p) => sum + p.size, 0);
  progress(`downloading ${missing.length} packages, ${Math.round(total / 1e6)} MB`);
  const mirrors = findMirrors();
  const unavailable: LockedPackage[] = [];
  // The largest first, each in a call of its own: they take longest.
  const sorted = missing.toSorted((a, b) => b.size - a.size);
  const calls: LockedPackage[][] = [];
  for (const locked of sorted) {
    const last = calls.at(-1);
    if (last === undefined || last.length >= packagesPerCall || last[0]!.size > 8e6) calls.push([locked]);
    else last.push(locked);
  }
  let done = 0;
  const worker = async () => {
    for (let call = calls.shift(); call !== undefined; call = calls.shift()) {
      unavailable.push(...(await downloadSome(call, cache, mirrors)));
      done += call.reduce((sum, p) => sum + p.size, 0);
      progress(`downloaded ${Math.round(done / 1e6)} of ${Math.round(total / 1e6)} MB`);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  if (unavailable.length > 0) {
    throw new DstackError(
      'PACKAGE_UNAVAILABLE',
      `the mirror does not have ${unavailable.map((p) => `${p.name} ${p.version}`).join(', ')}. Debian removes a package when a newer one replaces it. Either get it from a dated copy of the archive with \`npx dstack image fetch --snapshot URL\`, or move on with \`npx dstack image lock --update\`: that makes an image with another measurement, which the network's owner has to allow.`,
    );
  }
  return total;
}

/** Returns the packages that could not be fetched with the locked hash. */
async function downloadSome(
  packages: readonly LockedPackage[],
  cache: string,
  mirrors: Mirrors,
): Promise<LockedPackage[]> {
  const partial = (p: LockedPackage) => `${cachedPath(cache, p)}.part`;
  const wanted = packages.map((p) => ({
    url: `${mirrors[p.archive]}/${p.path}`,
    to: partial(p),
    sha256: p.sha256,
  }));
  // One missing package fails the whole call, so look at which files arrived with the right hash.
  const failure = await transfer(wanted).then(
    () => undefined,
    (error: unknown) => error,
  );
  const unavailable: LockedPackage[] = [];
  for (const locked of packages) {
    const file = partial(locked);
    if (
      existsSync(file) &&
      (await stat(file)).size === locked.size &&
      (await sha256File(file)) === locked.sha256
    ) {
      await rename(file, cachedPath(cache, locked));
    } else {
      await rm(file, { force: true });
      unavailable.push(locked);
    }
  }
  if (failure !== undefined && unavailable.length === packages.length && !mentionsMissing(failure))
    throw failure;
  return unavailable;
}

function mentionsMissing(failure: unknown): boolean {
  return (
    failure instanceof Error && /404|Not Found|Hash Sum mismatch|File not found|ENOENT/.test(failure.message)
  );
}

/**
 * Fetches one file, whose hash its reader checks.
 * @throws DstackError DOWNLOAD_FAILED
 */
export async function downloadFile(url: string, to: string): Promise<void> {
  await transfer([{ url, to }]).catch((error: unknown) => {
    throw new DstackError('DOWNLOAD_FAILED', `${url} cannot be fetched: ${(error as Error).message}`, {
      cause: error,
    });
  });
}

interface Transfer {
  readonly url: string;
  readonly to: string;
  readonly sha256?: string;
}

/** A mirror is reached through apt's downloader, or is a folder of this machine (`file:`), such as `image fetch` makes. */
async function transfer(files: readonly Transfer[]): Promise<void> {
  const remote = files.filter(({ url }) => !url.startsWith('file:'));
  for (const { url, to } of files) if (url.startsWith('file:')) await copyFile(fileURLToPath(url), to);
  if (remote.length === 0) return;
  // The process that talks to a mirror runs as apt's own unprivileged user and can write to a folder of that user only. apt
  // would fall back to root, with only a warning, if that user could not write.
  const folder = await mkdtemp(join(tmpdir(), 'dstack-download-'));
  try {
    if (process.getuid?.() === 0) await run('chown', [await sandboxUser(), folder]);
    const received = remote.map((file, index) => ({ ...file, at: join(folder, String(index)) }));
    const args = received.flatMap(({ url, at, sha256 }) => [
      url,
      at,
      ...(sha256 === undefined ? [] : [`SHA256:${sha256}`]),
    ]);
    const failure = await run(aptHelper, ['download-file', ...args]).then(
      () => undefined,
      (error: unknown) => error,
    );
    for (const { at, to } of received) if (existsSync(at)) await takeOver(at, to);
    if (failure !== undefined) throw failure;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The user that apt downloads as, by this machine's configuration. */
async function sandboxUser(): Promise<string> {
  const said = await run('apt-config', ['dump', '--format=%v', 'APT::Sandbox::User']);
  return said.trim() === '' ? 'root' : said.trim();
}

/** Copies a file out of another user's folder. Refuses links, and whatever is not a regular file. */
async function takeOver(from: string, to: string): Promise<void> {
  const source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!(await source.stat()).isFile())
      throw new DstackError('DOWNLOAD_FAILED', `${from} is not a regular file`);
    await pipeline(source.createReadStream({ autoClose: false }), createWriteStream(to));
  } finally {
    await source.close();
  }
}

/** SHA-256 (hex) of a file of any size. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
