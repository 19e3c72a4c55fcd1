/** The ecosystem's own client, installed exactly as test/sdk/package-lock.json has it, and what its calls came to. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const SDK_FOLDER = join(import.meta.dirname, '../sdk');

/** What each call resolved to: bytes in hex, objects as they are; `rejected` has the message of one that was. */
export type SdkResults = Record<string, Record<string, unknown> & { milliseconds: number }>;

/** Installs the client, unless it is there. No script of a package is run. */
export async function installSdk(): Promise<void> {
  const read = (path: string) => JSON.parse(readFileSync(join(SDK_FOLDER, path), 'utf8')).packages;
  const installed = join(SDK_FOLDER, 'node_modules/.package-lock.json');
  const isThere =
    existsSync(installed) &&
    Object.entries<{ integrity?: string }>(read('package-lock.json')).every(
      ([path, { integrity }]) =>
        path === '' || read('node_modules/.package-lock.json')[path]?.integrity === integrity,
    );
  if (isThere) return;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await promisify(execFile)('npm', args, { cwd: SDK_FOLDER });
}

/** Makes every call on a socket, in a process of its own. @param folder where an app's sockets are */
export async function callSdk(folder: string): Promise<SdkResults> {
  const sockets = ['dstack.sock', 'tappd.sock'].map((name) => join(folder, name));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(SDK_FOLDER, 'calls.mjs'), ...sockets],
    {
      maxBuffer: 16 * 1024 * 1024,
    },
  );
  return JSON.parse(stdout) as SdkResults;
}
