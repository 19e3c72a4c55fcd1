/**
 * Which log a store on a laptop keeps. A new store's is the one without a name of its own; a store that was restored from a backup begins
 * another, which continues the one of the backup: what that one had after the backup is lost, and the same log with other leaves would be a fork.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { type NoteSigner, noteSigner } from '../../../lib/ledger/note.ts';
import { fromHex, toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { ledgerKey, ledgerSaltKey } from '../../../lib/protocol/keys.ts';
import { Count, HexOf, parseJson, Strict } from '../../../lib/protocol/schema.ts';
import type { EarlierLog, LedgerSettings } from '../open-ledger.ts';

/** There is no network here, and so no epochs. */
const EPOCH = 1;
const LOG_BYTES = 16;
const ORIGIN = 'dstack.localhost/dev';
const UNNAMED = toHex(new Uint8Array(LOG_BYTES));
const MAX_BYTES = 64 * 1024;
/** A head has room for so many. */
const MOST_EARLIER = 16;

const NameSchema = Strict({
  /** Its id, hex. */
  log: HexOf(LOG_BYTES),
  /** Those whose leaves it began with, the first one first. */
  earlier: Type.Array(Strict({ log: HexOf(LOG_BYTES), size: Count, root: HexOf(32) }), {
    maxItems: MOST_EARLIER,
  }),
});
export type LogName = Static<typeof NameSchema>;
export { NameSchema as LogNameSchema };

const fileOf = (data: string): string => join(data, 'log.json');

/** @throws KV_LOG for a file that is not what was written there */
export function readName(data: string): LogName {
  const file = fileOf(data);
  if (!existsSync(file)) return { log: UNNAMED, earlier: [] };
  return parseJson(NameSchema, readFileSync(file, 'utf8'), 'KV_LOG', file, MAX_BYTES);
}

export function writeName(data: string, name: LogName): void {
  writeDurably(fileOf(data), JSON.stringify(name), 0o600);
}

const originOf = (log: string): string => (log === UNNAMED ? ORIGIN : `${ORIGIN}/${log}`);

const saltKeyOf = (secret: Uint8Array, log: string): Uint8Array =>
  ledgerSaltKey(secret, EPOCH, fromHex(log, LOG_BYTES));

export function signerOf(secret: Uint8Array, { log }: LogName): NoteSigner {
  return noteSigner(originOf(log), ledgerKey(secret, EPOCH, fromHex(log, LOG_BYTES)));
}

export const earlierLogs = (secret: Uint8Array, { earlier }: LogName): EarlierLog[] =>
  earlier.map(({ log, size, root }) => ({
    origin: originOf(log),
    size,
    root: fromHex(root, 32),
    saltKey: saltKeyOf(secret, log),
  }));

/** As the ledger is opened with it, in this folder. */
export function ledgerOf(
  data: string,
  secret: Uint8Array,
  name: LogName,
): Pick<LedgerSettings, 'folder' | 'origin' | 'seed' | 'saltKey' | 'earlier' | 'now'> {
  const { name: origin, seed } = signerOf(secret, name);
  return {
    folder: join(data, 'ledger'),
    origin,
    seed,
    saltKey: saltKeyOf(secret, name.log),
    earlier: earlierLogs(secret, name),
    // There is no chain here.
    now: () => Math.floor(Date.now() / 1000),
  };
}

/** The name of the log that continues another one from where it is. @throws KV_RESTORE where that continues too many already: nobody could read it */
export function nameAfter(
  before: LogName,
  id: Uint8Array,
  head: { size: number; root: Uint8Array },
): LogName {
  if (head.size > 0 && before.earlier.length >= MOST_EARLIER)
    throw new DstackError(
      'KV_RESTORE',
      `the log was continued ${MOST_EARLIER} times, and its heads have no room for more: read the keys of a store that runs, and write them to a new one`,
    );
  const taken = { log: before.log, size: head.size, root: toHex(head.root) };
  return { log: toHex(id), earlier: head.size === 0 ? before.earlier : [...before.earlier, taken] };
}
