/**
 * A receipt: one text that shows, offline and for ever, that a revision is in the ledger and what it did. It is a C2SP tlog-proof
 * (index, inclusion proof, signed head), whose extra data has the leaf's entry and the openings of the events that its holder may see.
 *
 * What it proves is the events: of a put and of a delete they are the whole of it; of a transaction they are what it wrote,
 * whatever it compared, read or answered.
 */
import { Type } from 'typebox';
import { bytesEqual } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { parseJson, Strict } from '../protocol/schema.ts';
import { openCheckpoint } from './checkpoint.ts';
import { type CurrentStatement, openCurrent } from './current.ts';
import { checkOpening, indexOf, type Leaf, type Opening, parseLeaf } from './leaf.ts';
import { HASH_BYTES, leafHash, sha256Of, verifyInclusion } from './merkle.ts';
import { base64, fromBase64, type NoteKey } from './note.ts';
import type { EventRecord } from './record.ts';

const FIRST_LINE = 'c2sp.org/tlog-proof@v1';
export const MAX_RECEIPT_BYTES = 8 * 1024 * 1024;
const MAX_PROOF = 64;

export interface Receipt {
  /** The leaf's bytes. */
  readonly entry: Uint8Array;
  readonly openings: readonly Opening[];
  /** The prefix of the holder's keys within the store. */
  readonly namespace: Uint8Array;
  readonly proof: readonly Uint8Array[];
  /** The signed head, as served. */
  readonly checkpoint: string;
  /** The store's signed word that the event's value was current at a later revision (current.ts). */
  readonly current?: string;
}

export interface ProvenEvent extends EventRecord {
  /** Its place among the events of the revision. */
  readonly index: number;
  /** The key as its owner names it: without the namespace's prefix. */
  readonly ownKey: Uint8Array;
}

/** What the events are, as a request: a put or a delete of one key, or any number of events. */
export type Basis = 'put' | 'delete' | 'events';

export interface ProvenReceipt {
  readonly revision: bigint;
  readonly leaf: Leaf;
  /** The leaf's hash. */
  readonly leafHash: Uint8Array;
  readonly events: readonly ProvenEvent[];
  /** The prefix of all their keys within the store: `a/<app>/`, `d/<daemon>/` or `o/`. Undefined where no event is shown. */
  readonly namespace?: string;
  readonly basis: Basis;
  /** Of the signed head. */
  readonly size: number;
  readonly root: Uint8Array;
  readonly time?: number;
  readonly current?: CurrentStatement;
}

const Base64 = Type.String({ maxLength: MAX_RECEIPT_BYTES, pattern: '^[A-Za-z0-9+/]*={0,2}$' });
const ExtraSchema = Strict({
  version: Type.Literal(1),
  entry: Base64,
  namespace: Base64,
  openings: Type.Array(
    Strict({
      index: Type.Integer({ minimum: 0, maximum: 0xffffffff }),
      salt: Base64,
      record: Base64,
      path: Type.Array(Base64, { maxItems: MAX_PROOF }),
    }),
  ),
  current: Type.Optional(Type.String({ maxLength: 4_096 })),
});

export function formatReceipt(receipt: Receipt): string {
  const extra = {
    version: 1,
    entry: base64(receipt.entry),
    namespace: base64(receipt.namespace),
    openings: receipt.openings.map(({ index, salt, record, path }) => ({
      index,
      salt: base64(salt),
      record: base64(record),
      path: path.map(base64),
    })),
    ...(receipt.current === undefined ? {} : { current: receipt.current }),
  };
  const lines = [
    FIRST_LINE,
    `extra ${Buffer.from(JSON.stringify(extra)).toString('base64')}`,
    `index ${indexOf(parseLeaf(receipt.entry).revision)}`,
    ...receipt.proof.map(base64),
  ];
  return `${lines.join('\n')}\n\n${receipt.checkpoint}`;
}

/** @throws RECEIPT_INVALID */
export function parseReceipt(text: string): Receipt & { readonly index: number } {
  if (text.length > MAX_RECEIPT_BYTES) throw invalid(`it is longer than ${MAX_RECEIPT_BYTES} characters`);
  const end = text.indexOf('\n\n');
  const [first, extraLine = '', indexLine = '', ...hashes] = text.slice(0, Math.max(end, 0)).split('\n');
  const index = /^index (0|[1-9]\d{0,15})$/.exec(indexLine)?.[1];
  if (
    first !== FIRST_LINE ||
    !extraLine.startsWith('extra ') ||
    index === undefined ||
    hashes.length > MAX_PROOF
  ) {
    throw invalid('a C2SP tlog-proof with extra data is expected');
  }
  const json = new TextDecoder().decode(required(extraLine.slice('extra '.length)));
  const extra = parseJson(
    ExtraSchema,
    json,
    'RECEIPT_INVALID',
    "the receipt's extra data",
    MAX_RECEIPT_BYTES,
  );
  return {
    index: Number(index),
    entry: required(extra.entry),
    namespace: bytesOf(extra.namespace),
    openings: extra.openings.map(({ index: at, salt, record, path }) => ({
      index: at,
      salt: required(salt, HASH_BYTES),
      record: required(record),
      path: path.map((step) => required(step, HASH_BYTES)),
    })),
    proof: hashes.map((line) => required(line, HASH_BYTES)),
    checkpoint: text.slice(end + 2),
    ...(extra.current === undefined ? {} : { current: extra.current }),
  };
}

/**
 * What a receipt proves to who knows the log's origin and its key.
 * @throws RECEIPT_INVALID, NOTE_*, CHECKPOINT_*, LEAF_INVALID, OPENING_INVALID, RECORD_INVALID; RECEIPT_LEAF for a leaf of another place,
 *   RECEIPT_PROOF for a proof that does not lead to the signed root, RECEIPT_NAMESPACE, CURRENT_* for a statement that is not of
 *   this log or of another key
 */
export function verifyReceipt(text: string, origin: string, keys: readonly NoteKey[]): ProvenReceipt {
  const receipt = parseReceipt(text);
  const head = openCheckpoint(receipt.checkpoint, origin, keys);
  const leaf = parseLeaf(receipt.entry);
  if (indexOf(leaf.revision) !== receipt.index) {
    throw new DstackError(
      'RECEIPT_LEAF',
      `the leaf is of revision ${leaf.revision}, its place is ${receipt.index}`,
    );
  }
  const hash = leafHash(receipt.entry);
  if (!verifyInclusion(receipt.index, head.size, hash, receipt.proof, head.root)) {
    throw new DstackError(
      'RECEIPT_PROOF',
      `the proof does not lead from this leaf to the head of size ${head.size}`,
    );
  }
  const events = receipt.openings.map((opening) => ({
    index: opening.index,
    ...ownEvent(checkOpening(leaf, opening), receipt.namespace),
  }));
  const current =
    receipt.current === undefined
      ? undefined
      : currentOf(receipt.current, origin, keys, leaf.revision, events);
  return {
    revision: leaf.revision,
    leaf,
    leafHash: hash,
    events,
    ...(events.length > 0 && { namespace: Buffer.from(receipt.namespace).toString('latin1') }),
    basis: basisOf(leaf, events),
    size: head.size,
    root: head.root,
    ...(head.time === undefined ? {} : { time: head.time }),
    ...(current === undefined ? {} : { current }),
  };
}

/** Whether a value is the one that a proven put wrote. */
export function hasValue({ type, valueHash }: EventRecord, value: Uint8Array): boolean {
  return type === 'put' && bytesEqual(sha256Of(value), valueHash);
}

function basisOf({ count }: Leaf, events: readonly EventRecord[]): Basis {
  return count === 1 && events.length === 1 ? events[0]!.type : 'events';
}

/** Whole ones only: part of a key, taken for its namespace, would make it look like another key. */
const NAMESPACE = /^(o|[ad]\/[^/]+)\/$/;

function ownEvent(event: EventRecord, namespace: Uint8Array): Omit<ProvenEvent, 'index'> {
  const isWhole = NAMESPACE.test(Buffer.from(namespace).toString('latin1'));
  if (!isWhole || !bytesEqual(event.key.subarray(0, namespace.length), namespace)) {
    throw new DstackError('RECEIPT_NAMESPACE', 'the receipt shows an event of another namespace');
  }
  return { ...event, ownKey: event.key.subarray(namespace.length) };
}

function currentOf(
  note: string,
  origin: string,
  keys: readonly NoteKey[],
  revision: bigint,
  events: readonly EventRecord[],
): CurrentStatement {
  const statement = openCurrent(note, origin, keys);
  const isOfThis = events.some(
    ({ type, key }) => type === 'put' && bytesEqual(sha256Of(key), statement.keyHash),
  );
  if (statement.modRevision !== revision || !isOfThis) {
    throw new DstackError(
      'CURRENT_OTHER',
      'the statement is of another key or another revision than the receipt',
    );
  }
  return statement;
}

const bytesOf = (text: string): Uint8Array => (text === '' ? new Uint8Array() : required(text));

function required(text: string, length?: number): Uint8Array {
  const bytes = fromBase64(text);
  if (bytes === undefined || (length !== undefined && bytes.length !== length))
    throw invalid('a field is not base64');
  return bytes;
}

const invalid = (why: string) => new DstackError('RECEIPT_INVALID', `not a receipt: ${why}`);
