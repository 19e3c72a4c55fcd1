/**
 * Roots that are only unpacked: the tools and the kernel. No maintainer script runs, so the result depends on nothing but
 * the packages' bytes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedPath } from './download.ts';
import type { LockedPackage } from './packages.ts';
import { run } from './run.ts';

/** Left in a finished root: the hash of the lock lines it was made from. */
export const stampName = '.dstack-lock-hash';

/** True when `folder` was made, completely, from the lock lines with this hash. */
export function isCurrent(folder: string, hash: string): boolean {
  const stamp = join(folder, stampName);
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === hash;
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
  // The symlinks of a merged /usr come first: older packages still ship /bin and /lib as folders.
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(fresh, 'usr', name), { recursive: true });
    await run('ln', ['-s', `usr/${name}`, join(fresh, name)]);
  }
  for (const locked of packages) {
    // Through tar, which keeps those symlinks, as dpkg does.
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
  await writeFile(join(fresh, stampName), hash);
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
}
