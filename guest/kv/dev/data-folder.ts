/** The folder of a store on a laptop: nobody else's, and one store's at a time. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../../lib/daemon/folder.ts';
import { holdFolder } from '../../../lib/daemon/sole-holder.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';

/** Made at the first start; a store that was started with it can only be read with it. @throws KV_DATA, KV_SECRET, FOLDER */
export function openData(data: string): { readonly secret: Uint8Array } {
  makeFolder(data, 0o700);
  const path = join(data, 'secret');
  if (!existsSync(path)) {
    // `lost+found` is what a disk has that is mounted there.
    if (readdirSync(data).some((name) => name !== 'lost+found'))
      throw new DstackError(
        'KV_DATA',
        `${data} holds other things and no store: choose a new folder with --data`,
      );
    writeDurably(path, randomBytes(32).toString('hex'), 0o600);
  }
  return { secret: secretIn(path) };
}

/** @throws KV_DATA for a folder without a store, KV_SECRET */
export function existingSecret(data: string): Uint8Array {
  const path = join(data, 'secret');
  if (!existsSync(path))
    throw new DstackError('KV_DATA', `there is no store in ${data}: say with --data where it is`);
  return secretIn(path);
}

/** @throws KV_SECRET */
export function secretIn(path: string): Uint8Array {
  const text = existsSync(path) ? readFileSync(path, 'utf8').trim() : '';
  if (!/^[\da-f]{64}$/.test(text))
    throw new DstackError('KV_SECRET', `${path} is not the secret of a store: put back what it was`);
  return Buffer.from(text, 'hex');
}

/**
 * Keeps other stores from the folder while this process lives: two would end each other's etcd.
 * @throws KV_RUNNING
 */
export async function lockData(data: string): Promise<void> {
  if (await holdFolder(data, 'kv')) return;
  throw new DstackError(
    'KV_RUNNING',
    `a store runs on ${data} already: stop it first, or choose another folder with --data`,
  );
}
