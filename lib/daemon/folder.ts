/** Folders that are made with those above them. */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DstackError } from '../protocol/errors.ts';

/**
 * Makes a folder and those above it that are missing. Not by Node's `recursive`, which never returns where the parent is there and still none can be
 * made in it, as in /proc.
 * @throws FOLDER for a file in its place or above it, and the file system's own errors
 */
export function makeFolder(path: string, mode = 0o777): void {
  const missing: string[] = [];
  let at = resolve(path);
  for (; !existsSync(at); at = dirname(at)) missing.push(at);
  if (!statSync(at).isDirectory()) throw new DstackError('FOLDER', `${at} is not a folder`);
  for (const folder of missing.reverse()) mkdirSync(folder, { mode });
}
