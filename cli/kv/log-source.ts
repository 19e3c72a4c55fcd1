/** Where a log is read from: a store's URL, or a folder that it was copied to. Both are untrusted, and bounded. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import type { Fetch } from '../../lib/ledger/audit.ts';
import { CHECKPOINT_PATH, parseTilePath } from '../../lib/ledger/tiles.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { LEDGER_EVIDENCE_PATH } from '../../lib/protocol/ledger-evidence.ts';
import type { Arguments } from '../command.ts';
import { httpClient, urlOf } from './store-client.ts';

/** The log at a URL (the store's, or where it is mirrored) or in a folder. @throws USAGE, LOG_FOLDER */
export function logSource(where: string, args: Arguments): Fetch {
  return /^[a-z][a-z\d+.-]*:\/\//i.test(where)
    ? fromUrl(urlOf(where.endsWith('/') ? where : `${where}/`), args)
    : fromFolder(where);
}

/** A URL without a path is a store's, which has its log below /ledger/. */
function fromUrl(base: URL, args: Arguments): Fetch {
  const client = httpClient(base, args);
  const log = base.pathname === '/' ? new URL('ledger/', base) : base;
  return (path, maxBytes) => client({ url: new URL(path, log), maxBytes });
}

function fromFolder(folder: string): Fetch {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new DstackError('LOG_FOLDER', `${folder} is not a folder; a store is named by its URL, https://…`);
  return async (path, maxBytes) => {
    const file = join(folder, requireLogPath(path));
    if (statSync(file, { throwIfNoEntry: false }) === undefined)
      throw new DstackError('LOG_FILE_MISSING', `${folder} has no ${path}`);
    return readBounded(file, { maxBytes });
  };
}

export function requireLogPath(path: string): string {
  if ([CHECKPOINT_PATH, LEDGER_EVIDENCE_PATH].includes(path) || parseTilePath(path) !== undefined)
    return path;
  throw new DstackError('LOG_PATH', `not a path of a log: ${JSON.stringify(path)}`);
}
