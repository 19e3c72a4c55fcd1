/** npm packages of a test's own, which the product does without: installed exactly as the lock file of their folder has them. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Installs them, unless they are there. No script of a package is run. */
export async function installLocked(folder: string): Promise<void> {
  const read = (path: string) => JSON.parse(readFileSync(join(folder, path), 'utf8')).packages;
  const installed = join(folder, 'node_modules/.package-lock.json');
  const isThere =
    existsSync(installed) &&
    Object.entries<{ integrity?: string; optional?: boolean }>(read('package-lock.json')).every(
      ([path, { integrity, optional }]) =>
        path === '' || optional || read('node_modules/.package-lock.json')[path]?.integrity === integrity,
    );
  if (isThere) return;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await promisify(execFile)('npm', args, { cwd: folder });
}
