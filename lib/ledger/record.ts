/**
 * What the ledger says of one event, as bytes: the list (encoding.ts) of type, key, SHA-256 of the value, lease, version and the revision in which the
 * key was created. The value itself is not in it: whoever has it can check it, and a record stays small.
 */
import { DstackError } from '../protocol/errors.ts';
import { sha256Of } from './merkle.ts';

/** One event of a revision, as every replica has it. */
export interface LedgerEvent {
  readonly type: 'put' | 'delete';
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly lease: bigint;
  readonly version: bigint;
  readonly createRevision: bigint;
}

export interface EventRecord extends Omit<LedgerEvent, 'value'> {
  /** Of a delete: of no bytes. */
  readonly valueHash: Uint8Array;
}

const PUT = 0;
const DELETE = 1;
/** Six lengths, the type, the hash and three integers. */
const FIXED_BYTES = 6 * 4 + 1 + 32 + 3 * 8;
const VALUE_AT = 4 + 1 + 4;

/** Written in place: one buffer an event, at ten thousand events a second. */
export function recordOf({ type, key, value, lease, version, createRevision }: LedgerEvent): Uint8Array {
  const bytes = Buffer.allocUnsafe(FIXED_BYTES + key.length);
  bytes.writeUInt32BE(1, 0);
  bytes[4] = type === 'put' ? PUT : DELETE;
  bytes.writeUInt32BE(key.length, 5);
  bytes.set(key, VALUE_AT);
  let at = VALUE_AT + key.length;
  at = bytes.writeUInt32BE(32, at);
  bytes.set(sha256Of(value), at);
  at += 32;
  for (const integer of [lease, version, createRevision]) {
    at = bytes.writeUInt32BE(8, at);
    at = bytes.writeBigUInt64BE(BigInt.asUintN(64, integer), at);
  }
  return bytes;
}

/** @throws RECORD_INVALID */
export function parseRecord(bytes: Uint8Array): EventRecord {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const keyLength = buffer.length - FIXED_BYTES;
  if (keyLength < 0) throw invalid();
  const after = VALUE_AT + keyLength;
  const integer = (which: number) => buffer.readBigUInt64BE(after + 36 + 12 * which + 4);
  const lengths = [0, 5, after, after + 36, after + 48, after + 60].map((at) => buffer.readUInt32BE(at));
  const expected = [1, keyLength, 32, 8, 8, 8];
  if (!expected.every((length, at) => length === lengths[at]) || buffer[4]! > DELETE) throw invalid();
  return {
    type: buffer[4] === PUT ? 'put' : 'delete',
    key: buffer.subarray(VALUE_AT, after),
    valueHash: buffer.subarray(after + 4, after + 36),
    lease: integer(0),
    version: integer(1),
    createRevision: integer(2),
  };
}

const invalid = () => new DstackError('RECORD_INVALID', 'not the record of an event');
