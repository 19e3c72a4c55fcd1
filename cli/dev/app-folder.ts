/** What makes a folder an app's, and its sources ones that can be started. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { Type } from 'typebox';
import { DstackError, messageOf } from '../../lib/protocol/errors.ts';
import { AppName, parseJson } from '../../lib/protocol/schema.ts';
import { sources } from './changes.ts';

const MANIFEST_MAX_BYTES = 64 * 1024;
const Manifest = Type.Object({ name: AppName });
const NEEDED = ['contracts/App.sol', 'enclave/main.ts', 'host/main.ts'] as const;

/** @returns the app's name. @throws APP_FOLDER */
export function nameOfApp(folder: string): string {
  const hint = 'npx dstack create NAME makes an app, --dir names its folder';
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new DstackError('APP_FOLDER', `${folder} is no folder: ${hint}`);
  const file = join(folder, 'package.json');
  if (!existsSync(file))
    throw new DstackError('APP_FOLDER', `${folder} is no app, it has no package.json: ${hint}`);
  const { name } = parseJson(Manifest, readFileSync(file, 'utf8'), 'APP_FOLDER', file, MANIFEST_MAX_BYTES);
  const missing = NEEDED.filter((path) => !existsSync(join(folder, path)));
  if (missing.length > 0)
    throw new DstackError('APP_FOLDER', `${folder} is no app, it has no ${missing.join(', no ')}: ${hint}`);
  return name;
}

/**
 * Looks whether Node can read what the two processes are made of, before one that runs is ended for it.
 *
 * @throws DEV_SOURCE with what is wrong in which file
 */
export function assertReadable(folder: string): void {
  const paths = [...sources(folder).keys()].filter((path) => path.endsWith('.ts'));
  const missing = NEEDED.filter((path) => path.endsWith('.ts') && !paths.includes(path));
  const details = [
    ...missing.map((path) => `${path} is missing`),
    ...paths.flatMap((path) => wrongIn(folder, path)),
  ];
  if (details.length > 0)
    throw new DstackError('DEV_SOURCE', 'the app stays as it was: its sources are not whole', { details });
}

function wrongIn(folder: string, path: string): readonly string[] {
  try {
    stripTypeScriptTypes(readFileSync(join(folder, path), 'utf8'));
    return [];
  } catch (error) {
    // Saved by an editor that deletes first: the next look finds what came in its place.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    return [`${path}${lineOf(error)}:`, ...messageOf(error).trim().split('\n')];
  }
}

/** Node says the line at the beginning of the stack alone: `:2`, then the source. */
const lineOf = (error: unknown): string => /^:\d+(?=\n)/.exec((error as Error).stack ?? '')?.[0] ?? '';
