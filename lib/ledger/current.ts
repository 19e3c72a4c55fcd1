/**
 * The store's word for a read: at revision R the newest write of a key was that of revision M (or there was none: 0). A ledger of hashes proves that a write
 * happened, not that none followed; that is said by the store, signed, so that a false word can be held against it with the leaf that
 * it left out.
 *
 *     dstack/kv/<chain id>/<contract>/current
 *     key <base64 of the SHA-256 of the key>
 *     at <R>
 *     written <M>
 *
 * Its first line, and the name of its key, is not the log's origin: it can be taken for no head.
 */
import { DstackError } from '../protocol/errors.ts';
import { HASH_BYTES } from './merkle.ts';
import { base64, fromBase64, type NoteKey, type NoteSigner, noteSigner, openNote, signNote } from './note.ts';

export interface CurrentStatement {
  /** SHA-256 of the key, with its namespace's prefix. */
  readonly keyHash: Uint8Array;
  /** At which it was read. */
  readonly revision: bigint;
  /** In which the key was last written; 0 where there is no such key. */
  readonly modRevision: bigint;
}

const nameOf = (origin: string): string => `${origin}/current`;

export function signCurrent({ keyHash, revision, modRevision }: CurrentStatement, log: NoteSigner): string {
  const name = nameOf(log.name);
  const text = `${name}\nkey ${base64(keyHash)}\nat ${revision}\nwritten ${modRevision}\n`;
  return signNote(text, [noteSigner(name, log.seed)]);
}

/** @throws NOTE_*, CURRENT_INVALID */
export function openCurrent(note: string, origin: string, keys: readonly NoteKey[]): CurrentStatement {
  const name = nameOf(origin);
  const { text } = openNote(
    note,
    keys.map(({ publicKey }) => ({ name, publicKey })),
  );
  const [first, key = '', at = '', written = '', ...rest] = text.slice(0, -1).split('\n');
  const keyHash = fromBase64(key.replace(/^key /, ''));
  const revision = /^at ([1-9]\d{0,18})$/.exec(at)?.[1];
  const modRevision = /^written (0|[1-9]\d{0,18})$/.exec(written)?.[1];
  if (
    first !== name ||
    !key.startsWith('key ') ||
    keyHash?.length !== HASH_BYTES ||
    revision === undefined ||
    modRevision === undefined ||
    BigInt(modRevision) > BigInt(revision) ||
    rest.length > 0
  ) {
    throw new DstackError('CURRENT_INVALID', `not what ${origin} says of a key's value`);
  }
  return { keyHash, revision: BigInt(revision), modRevision: BigInt(modRevision) };
}
