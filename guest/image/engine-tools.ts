/** etcd and its client from the locked packages without the rest of the tool root: what a store on a laptop needs, 17 MB. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultToolRoot } from '../../lib/daemon/tool-root.ts';
import { downloadPackages } from './download.ts';
import { lockFile } from './lock.ts';
import { findMirrors } from './mirrors.ts';
import { lockHash, packagesOf, parseLock } from './packages.ts';
import { isCurrent, unpackRoot } from './unpacked-root.ts';

/** With what they load. */
const names = ['etcd-server', 'etcd-client', 'libc6'];

/** A root that has them, for `toolCommand`: the tool root, if it was made, else one in the cache, which is made if it has to be. */
export async function engineTools(cache: string, progress: (message: string) => void): Promise<string> {
  if (existsSync(join(defaultToolRoot(), 'usr/bin/etcd'))) return defaultToolRoot();
  const lock = packagesOf(parseLock(readFileSync(lockFile, 'utf8')), 'tools');
  const packages = lock.filter(({ name }) => names.includes(name));
  const folder = join(cache, 'kv-tools');
  const hash = lockHash(packages, 'tools');
  if (await isCurrent(folder, hash)) return folder;
  progress('etcd of the locked packages is fetched, once');
  await mkdir(cache, { recursive: true });
  await downloadPackages(packages, join(cache, 'debs'), findMirrors, progress);
  await unpackRoot(packages, join(cache, 'debs'), folder, hash);
  return folder;
}
