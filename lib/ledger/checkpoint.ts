/**
 * Signed heads of the ledger: C2SP tlog-checkpoints. The text is the log's origin, the number of leaves and the root, and one
 * extension line with the chain's time when the head was signed:
 *
 *     dstack/kv/<chain id>/<contract>/<log>
 *     20852163
 *     CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
 *     time 1764421380
 *
 * A log of a store that was restored from a backup begins with the leaves of the log that the backup is of, and each of its heads names that
 * log, and how far it continues it, in another line: `continues <origin> <size> <root>`. What that log had after is lost, and can't be hidden.
 *
 * The origin names the network and the log, which is one node's, so that no head of one is taken for another's. A head is in the ledger's history; its time is
 * not: two replicas sign the same tree at different times.
 */
import { toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { type Address, addressKey } from '../protocol/hex.ts';
import type { Domain } from '../protocol/typed-data.ts';
import { HASH_BYTES } from './merkle.ts';
import { base64, fromBase64, type NoteKey, type NoteSigner, openNote, parseNote, signNote } from './note.ts';

/** Of a log, at a size: what a head says of it. */
export interface EarlierHead {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

export interface Checkpoint extends EarlierHead {
  /** The logs whose leaves this one began with; absent for one that began empty. */
  readonly continues?: readonly EarlierHead[];
  /** Seconds since 1970, by the chain; absent in heads of others. */
  readonly time?: number;
}

/** The log's origin, and the name of the key that signs its heads. @param log the id of the disk that it lies on */
export function originOf(
  { chainId, contract }: { chainId: Domain['chainId']; contract: Address },
  log: Uint8Array,
): string {
  return `dstack/kv/${chainId}/${addressKey(contract)}/${toHex(log)}`;
}

export function checkpointText({ time, continues = [], ...head }: Checkpoint): string {
  const lines = [
    ...(time === undefined ? [] : [`time ${time}`]),
    ...continues.map(({ origin, size, root }) => `continues ${origin} ${size} ${base64(root)}`),
  ];
  return `${head.origin}\n${head.size}\n${base64(head.root)}\n${lines.map((line) => `${line}\n`).join('')}`;
}

export function signCheckpoint(checkpoint: Checkpoint, signers: readonly NoteSigner[]): string {
  return signNote(checkpointText(checkpoint), signers);
}

/** What an unverified head says: for showing, never for deciding. @throws NOTE_INVALID, CHECKPOINT_INVALID */
export function readCheckpoint(note: string): Checkpoint {
  return parseText(parseNote(note).text);
}

/**
 * The head, if it is of this log and signed by one of the keys.
 * @throws NOTE_*, CHECKPOINT_INVALID, CHECKPOINT_ORIGIN
 */
export function openCheckpoint(note: string, origin: string, keys: readonly NoteKey[]): Checkpoint {
  const checkpoint = parseText(openNote(note, keys).text);
  if (checkpoint.origin !== origin) {
    throw new DstackError('CHECKPOINT_ORIGIN', `the head is of ${checkpoint.origin}, not of ${origin}`);
  }
  return checkpoint;
}

function parseText(text: string): Checkpoint {
  const [origin = '', size = '', encoded = '', ...extensions] = text.slice(0, -1).split('\n');
  const root = fromBase64(encoded);
  if (
    origin === '' ||
    !/^(0|[1-9]\d{0,15})$/.test(size) ||
    !Number.isSafeInteger(Number(size)) ||
    root?.length !== HASH_BYTES ||
    extensions.includes('')
  ) {
    throw new DstackError(
      'CHECKPOINT_INVALID',
      'the note is no head of a log: origin, size and root are expected',
    );
  }
  const [time] = extensions.flatMap((line) => /^time ((?:0|[1-9]\d{0,11}))$/.exec(line)?.[1] ?? []);
  const continues = extensions.flatMap(parseContinues);
  return {
    origin,
    size: Number(size),
    root,
    ...(time === undefined ? {} : { time: Number(time) }),
    ...(continues.length === 0 ? {} : { continues }),
  };
}

function parseContinues(line: string): EarlierHead[] {
  const [, origin, size, encoded = ''] = /^continues (\S+) ([1-9]\d{0,14}) (\S+)$/.exec(line) ?? [];
  const root = fromBase64(encoded);
  return origin === undefined || root?.length !== HASH_BYTES ? [] : [{ origin, size: Number(size), root }];
}
