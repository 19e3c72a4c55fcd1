/**
 * What a restarted daemon has to know: manifests that were checked, and which of them each app serves. In a folder of the daemon's own,
 * in the VM's memory; still, a manifest is hashed again when it is read.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { type Manifest, manifestHash, parseManifest } from '../../lib/protocol/manifest.ts';
import { AppName, Count, HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';

/** Hashes of manifests, 64 hex digits. */
const RecordSchema = Strict({
  serving: HexOf(32),
  previous: Type.Optional(HexOf(32)),
  /** Since when the contract names another one than `serving`, Unix seconds by the chain's clock. */
  superseded: Type.Optional(Count),
  /** Containers that ended by themselves and are not started again; and those that were stopped for a new version. */
  finished: Type.Optional(Type.Array(AppName, { maxItems: 8 })),
  interrupted: Type.Optional(Type.Array(AppName, { maxItems: 8 })),
});
const ReadSchema = Strict({ at: Count });
export type Serving = Static<typeof RecordSchema>;

export interface Kept {
  manifest(hash: Hex): Manifest | undefined;
  /** @param bytes with this hash */
  save(hash: Hex, bytes: Uint8Array): void;
  /** Removes all manifests but these. */
  prune(hashes: ReadonlySet<Hex>): void;
  record(app: string): Serving | undefined;
  remember(app: string, serving: Serving): void;
  forget(app: string): void;
  /** The time of the block at which the contract was read last, Unix seconds; to a minute. */
  readAt(): number | undefined;
  rememberReadAt(at: number): void;
}

/** @param folder made if it is not there */
export function keptIn(folder: string): Kept {
  const [manifests, records] = [join(folder, 'manifests'), join(folder, 'serving')];
  for (const one of [manifests, records]) mkdirSync(one, { recursive: true, mode: 0o700 });
  const fileOf = (hash: Hex) => join(manifests, `${hash}.json`);
  const recordOf = (app: string) => join(records, `${app}.json`);
  const readFile = join(folder, 'read.json');
  return {
    manifest(hash) {
      const bytes = bytesOf(fileOf(hash));
      return bytes !== undefined && toHex(manifestHash(bytes)) === hash ? parseManifest(bytes) : undefined;
    },
    save: (hash, bytes) => writeDurably(fileOf(hash), bytes, 0o600),
    prune(hashes) {
      for (const name of readdirSync(manifests))
        if (!hashes.has(name.replace(/\.json$/, '') as Hex)) rmSync(join(manifests, name), { force: true });
    },
    record(app) {
      const bytes = bytesOf(recordOf(app));
      if (bytes === undefined) return undefined;
      return parseJson(RecordSchema, bytes.toString('utf8'), 'APP_RECORD', `the record of ${app}`, 1024);
    },
    remember: (app, serving) => writeDurably(recordOf(app), JSON.stringify(serving), 0o600),
    forget: (app) => rmSync(recordOf(app), { force: true }),
    readAt() {
      const bytes = bytesOf(readFile);
      if (bytes === undefined) return undefined;
      return parseJson(ReadSchema, bytes.toString('utf8'), 'APP_RECORD', 'when the contract was read', 1024)
        .at;
    },
    rememberReadAt: (at) => writeDurably(readFile, JSON.stringify({ at }), 0o600),
  };
}

/** Of a record that could not be written; `cause` may name a file, which is nobody's business. */
export function unrecorded(what: string, cause: unknown): DstackError {
  const why = (cause as NodeJS.ErrnoException).code ?? 'INTERNAL';
  return new DstackError('APP_UNRECORDED', `${what} cannot be written down: ${why}`, { cause });
}

function bytesOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
