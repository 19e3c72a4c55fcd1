/** The ecosystem's own client, installed exactly as test/sdk/package-lock.json has it, and what its calls came to. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installLocked } from './locked-packages.ts';

export const SDK_FOLDER = join(import.meta.dirname, '../sdk');

/** What each call resolved to: bytes in hex, objects as they are; `rejected` has the message of one that was. */
export type SdkResults = Record<string, Record<string, unknown> & { milliseconds: number }>;

export const installSdk = (): Promise<void> => installLocked(SDK_FOLDER);

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
