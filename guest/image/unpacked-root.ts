/**
 * Roots that are only unpacked: the tools and the kernel. No maintainer script runs, so the result depends on nothing but
 * the packages' bytes.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedPath } from './download.ts';
import type { LockedPackage } from './packages.ts';
import { run } from './run.ts';

/** Written into a finished root: the hash of the lock lines that it was made from. */
export const stampName = '.dstack-lock-hash';

/** Whether `folder` was completely made from the lock lines with this hash. Removes others' access to it if it is still there. */
export async function isCurrent(folder: string, hash: string): Promise<boolean> {
  const stamp = join(folder, stampName);
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== hash) return false;
  if (!isClosed(folder)) await closeRoot(folder);
  return true;
}

const SET_ID = 0o6000;
const OWNER_ONLY = 0o700;

function isClosed(folder: string): boolean {
  return (statSync(folder).mode & 0o777) === OWNER_ONLY;
}

/**
 * An unpacked root stays on the build host for a long time and is never updated there: its programs must give nobody
 * privileges, and only its owner needs access.
 */
export async function closeRoot(folder: string): Promise<void> {
  // Last, so that a root without access for others has been fully processed.
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() && !entry.isDirectory()) continue;
    const path = join(entry.parentPath, entry.name);
    const { mode } = await lstat(path);
    if ((mode & SET_ID) !== 0) await chmod(path, mode & 0o7777 & ~SET_ID);
  }
  await chmod(folder, OWNER_ONLY);
}

/** Unpacks `packages` into `folder`, replacing what was there, and stamps it with `hash`. */
export async function unpackRoot(
  packages: readonly LockedPackage[],
  cache: string,
  folder: string,
  hash: string,
): Promise<void> {
  const fresh = `${folder}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  await chmod(fresh, OWNER_ONLY);
  // The symlinks of a merged /usr come first: older packages still ship /bin and /lib as folders.
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(fresh, 'usr', name), { recursive: true });
    await run('ln', ['-s', `usr/${name}`, join(fresh, name)]);
  }
  for (const locked of packages) {
    // With tar, which keeps those symlinks, as dpkg does.
    await run('sh', [
      '-c',
      'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale',
      'unpack',
      cachedPath(cache, locked),
      fresh,
    ]);
  }
  // buildah, in a chroot of the tools, asks who its user is.
  await mkdir(join(fresh, 'etc'), { recursive: true });
  await writeFile(join(fresh, 'etc/passwd'), 'root:x:0:0:root:/root:/usr/sbin/nologin\n');
  await writeFile(join(fresh, 'etc/group'), 'root:x:0:\n');
  await closeRoot(fresh);
  await writeFile(join(fresh, stampName), hash);
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
}
