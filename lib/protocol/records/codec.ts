/**
 * Records as bytes, in exactly one way: what `decodeRecord` takes, `encodeRecord` gives back byte for byte, and it takes nothing else. All
 * fields have a fixed size or say it, so that no field has two spellings; the order of lists is fixed by format.ts. Integers are big-endian.
 */
import { DstackError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import {
  type DagRecord,
  ID_BYTES,
  MAX_LINKS,
  MAX_SELECTORS,
  MAX_VALUE_BYTES,
  type Mask,
  NONCE_BYTES,
  ORDINAL_TAG_BYTES,
  type Permit,
  type RecordHead,
  type RecordType,
  type RecordValue,
  requireHeadForm,
  requireTailForm,
  type Selector,
  SOLUTION_BYTES,
} from './format.ts';
import { PUBLIC_KEY_BYTES, SIGNATURE_BYTES } from './strict-ed25519.ts';

/** The first byte: version 1, and whether the value is there. */
const WHOLE = 0x10;
const PRUNED = 0x11;

const TYPE_NUMBERS: Readonly<Record<RecordType, number>> = {
  genesis: 0,
  datum: 1,
  commentary: 2,
  certificate: 3,
  revocation: 4,
};
const TYPES_BY_NUMBER = Object.fromEntries(
  Object.entries(TYPE_NUMBERS).map(([type, number]) => [number, type as RecordType]),
) as Readonly<Partial<Record<number, RecordType>>>;

const SHARED = 1;
const MASKED_BY_KEY = 0xff;

const PERMIT_NUMBERS: Readonly<Record<Permit['kind'], number>> = { none: 0, work: 1, certificate: 2 };

/** Type, flags, mask; timestamp; owner; the numbers of links and of selectors. */
const HEAD_BYTES = 3 + 6 + PUBLIC_KEY_BYTES + 2;

/** No record is larger; what is, need not be read. */
export const MAX_RECORD_BYTES =
  1 + // form
  HEAD_BYTES +
  MAX_LINKS * ID_BYTES +
  MAX_SELECTORS * (PUBLIC_KEY_BYTES + ORDINAL_TAG_BYTES + SIGNATURE_BYTES) +
  4 + // length of the value
  MAX_VALUE_BYTES +
  1 + // kind of permit
  (4 + NONCE_BYTES + SOLUTION_BYTES) +
  SIGNATURE_BYTES;

/** The head alone: a masked value is bound to it, and the body's hash begins with it. @throws RECORD_… of format.ts */
export function encodeHead(head: RecordHead): Uint8Array {
  requireHeadForm(head);
  const fixed = Buffer.alloc(HEAD_BYTES);
  fixed[0] = TYPE_NUMBERS[head.type];
  fixed[1] = head.shared ? SHARED : 0;
  fixed[2] = maskByte(head.mask);
  fixed.writeUIntBE(head.timestamp, 3, 6);
  fixed.set(head.owner, 9);
  fixed[41] = head.links.length;
  fixed[42] = head.selectors.length;
  const selectors = head.selectors.flatMap(({ claimKey, ordinalTag }) => [claimKey, ordinalTag]);
  return new Uint8Array(Buffer.concat([fixed, ...head.links, ...selectors]));
}

/** @throws RECORD_… of format.ts for what has no form */
export function encodeRecord(record: DagRecord): Uint8Array {
  const head = encodeHead(record);
  requireTailForm(record);
  const { value } = record;
  return new Uint8Array(
    Buffer.concat([
      Uint8Array.of(value.kind === 'whole' ? WHOLE : PRUNED),
      head,
      uint32(value.kind === 'whole' ? value.bytes.length : value.length),
      value.kind === 'whole' ? value.bytes : value.hash,
      ...record.claims,
      encodePermit(record.permit),
      record.signature,
    ]),
  );
}

/**
 * The record that these bytes are. Form only: signatures are checked by signatures.ts, the rest by membership.ts. Nothing of the result
 * shares memory with the bytes.
 * @throws RECORD_… of format.ts; RECORD_SIZE, RECORD_VERSION, RECORD_FLAGS, RECORD_TRUNCATED, RECORD_TRAILING
 */
export function decodeRecord(bytes: Uint8Array): DagRecord {
  if (bytes.length > MAX_RECORD_BYTES) {
    throw new DstackError('RECORD_SIZE', `a record has up to ${MAX_RECORD_BYTES} bytes, not ${bytes.length}`);
  }
  const reader = new ByteReader(bytes);
  const form = reader.byte('the form');
  if (form !== WHOLE && form !== PRUNED) {
    throw new DstackError(
      'RECORD_VERSION',
      `form ${form} is of no version that is known here; use a newer one`,
    );
  }
  const head = readHead(reader);
  // Before the value is copied: what follows in the record counts on these.
  requireHeadForm(head);
  const value = readValue(reader, form === WHOLE);
  const claims = head.selectors.map(() => reader.take(SIGNATURE_BYTES, 'a claim'));
  const permit = readPermit(reader);
  const signature = reader.take(SIGNATURE_BYTES, 'the signature');
  reader.end();
  const record: DagRecord = { ...head, value, claims, permit, signature };
  requireTailForm(record);
  return record;
}

/** A permit as it stands in a record and in what the record's identity covers. */
export function encodePermit(permit: Permit): Uint8Array {
  const kind = Uint8Array.of(PERMIT_NUMBERS[permit.kind]);
  if (permit.kind === 'none') return kind;
  if (permit.kind === 'certificate') return new Uint8Array(Buffer.concat([kind, permit.certificate]));
  return new Uint8Array(Buffer.concat([kind, uint32(permit.difficulty), permit.nonce, permit.solution]));
}

function readHead(reader: ByteReader): RecordHead {
  const type = TYPES_BY_NUMBER[reader.byte('the type')];
  if (type === undefined) throw new DstackError('RECORD_TYPE', 'a record of an unknown type');
  const flags = reader.byte('the flags');
  if ((flags & ~SHARED) !== 0) {
    throw new DstackError('RECORD_FLAGS', `flags ${flags} have a meaning that is not known here`);
  }
  const mask = maskOf(reader.byte('the mask'));
  const timestamp = reader.uint48('the timestamp');
  const owner = reader.take(PUBLIC_KEY_BYTES, 'the owner');
  const linkCount = reader.byte('the number of links');
  const selectorCount = reader.byte('the number of selectors');
  if (linkCount > MAX_LINKS) {
    throw new DstackError('RECORD_LINKS', `a record has up to ${MAX_LINKS} links, not ${linkCount}`);
  }
  if (selectorCount > MAX_SELECTORS) {
    throw new DstackError(
      'RECORD_SELECTORS',
      `a record has up to ${MAX_SELECTORS} selectors, not ${selectorCount}`,
    );
  }
  const links = times(linkCount, () => reader.take(ID_BYTES, 'a link'));
  const selectors = times(
    selectorCount,
    (): Selector => ({
      claimKey: reader.take(PUBLIC_KEY_BYTES, 'a claim key'),
      ordinalTag: reader.take(ORDINAL_TAG_BYTES, 'an ordinal'),
    }),
  );
  return { type, shared: flags === SHARED, mask, timestamp, owner, links, selectors };
}

function readValue(reader: ByteReader, isWhole: boolean): RecordValue {
  const length = reader.uint32('the length of the value');
  if (length > MAX_VALUE_BYTES) {
    throw new DstackError(
      'RECORD_VALUE',
      `a value has up to ${MAX_VALUE_BYTES} bytes, not ${length}; split it`,
    );
  }
  if (isWhole) return { kind: 'whole', bytes: reader.take(length, 'the value') };
  return { kind: 'pruned', length, hash: reader.take(32, 'the hash of the value') };
}

function readPermit(reader: ByteReader): Permit {
  const kind = reader.byte('the kind of permit');
  if (kind === PERMIT_NUMBERS.none) return { kind: 'none' };
  if (kind === PERMIT_NUMBERS.certificate) {
    return { kind: 'certificate', certificate: reader.take(ID_BYTES, 'the identity of a certificate') };
  }
  if (kind !== PERMIT_NUMBERS.work) {
    throw new DstackError('RECORD_PERMIT', `permit ${kind} is of no kind that is known here`);
  }
  return {
    kind: 'work',
    difficulty: reader.uint32('the difficulty'),
    nonce: reader.take(NONCE_BYTES, 'the nonce'),
    solution: reader.take(SOLUTION_BYTES, 'the solution'),
  };
}

function maskByte(mask: Mask): number {
  if (mask === 'none') return 0;
  return mask === 'key' ? MASKED_BY_KEY : mask.selector + 1;
}

/** A selector that is not there is refused with the head. */
function maskOf(byte: number): Mask {
  if (byte === 0) return 'none';
  return byte === MASKED_BY_KEY ? 'key' : { selector: byte - 1 };
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: count }, make);
}

function uint32(value: number): Uint8Array {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
