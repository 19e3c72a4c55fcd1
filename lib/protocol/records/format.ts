/**
 * What a record is, and its rules of form. docs/records.md has the bytes; codec.ts reads and writes them.
 *
 * A record's identity covers all of it but the owner's signature, and the value by its hash: so the value of a datum can be
 * thrown away, and a second signature of the same owner is not a second record.
 */
import { DstackError } from '../errors.ts';

export const RECORD_TYPES = ['datum', 'genesis', 'commentary', 'certificate', 'revocation'] as const;
export type RecordType = (typeof RECORD_TYPES)[number];

export const MAX_SELECTORS = 15;
export const MAX_LINKS = 15;
/** 64 KiB: a registration with the collateral that proves it takes up to 25. */
export const MAX_VALUE_BYTES = 65_536;
/** Milliseconds of 48 bits, until the year 10889. */
export const MAX_TIMESTAMP = 2 ** 48 - 1;

export const ID_BYTES = 32;
export const ORDINAL_TAG_BYTES = 8;
export const NONCE_BYTES = 16;
/** 32 indices of 17 bits: equihash.ts. */
export const SOLUTION_BYTES = 68;

/** What a record can be found by. */
export interface Selector {
  /** The name's claim key: names.ts. */
  readonly claimKey: Uint8Array;
  /** The ordinal, under the name's ordinal key: ordinals.ts. */
  readonly ordinalTag: Uint8Array;
}

/** Under what the value is encrypted: nothing, the name of the selector with this index, or a key that its readers were given. */
export type Mask = 'none' | 'key' | { readonly selector: number };

export type RecordValue =
  | { readonly kind: 'whole'; readonly bytes: Uint8Array }
  /** Only its hash is left. */
  | { readonly kind: 'pruned'; readonly length: number; readonly hash: Uint8Array };

/** What lets a record in: proof of work, a certificate, or nothing (what genesis and its authorities write needs neither). */
export type Permit =
  | { readonly kind: 'none' }
  /** @property difficulty so many times the work of one solution, 1 to 2^32 − 1 */
  | {
      readonly kind: 'work';
      readonly difficulty: number;
      readonly nonce: Uint8Array;
      readonly solution: Uint8Array;
    }
  /** @property certificate the identity of the record that certifies the owner: an ancestor, like a link */
  | { readonly kind: 'certificate'; readonly certificate: Uint8Array };

/** All that stands before the value. What a masked value is bound to. */
export interface RecordHead {
  readonly type: RecordType;
  /** Many owners may write the same names and ordinals side by side: the owner is a part of what must not collide. */
  readonly shared: boolean;
  readonly mask: Mask;
  /** Milliseconds since 1970, as its maker says. */
  readonly timestamp: number;
  readonly owner: Uint8Array;
  /** Identities of earlier records, ascending, each once. */
  readonly links: readonly Uint8Array[];
  /** Ascending by claim key, each once. */
  readonly selectors: readonly Selector[];
}

/** A whole record, as it lies in a store and travels. */
export interface DagRecord extends RecordHead {
  readonly value: RecordValue;
  /** One signature for each selector, by the key that whoever knows the name has. */
  readonly claims: readonly Uint8Array[];
  readonly permit: Permit;
  readonly signature: Uint8Array;
}

export function valueLength(value: RecordValue): number {
  return value.kind === 'whole' ? value.bytes.length : value.length;
}

/** What can't be written in the one form. Whoever makes a record learns it before signing, and the decoder says the same. */
export function requireHeadForm(head: RecordHead): void {
  if (!RECORD_TYPES.includes(head.type)) refuse('RECORD_TYPE', `there is no record type ${head.type}`);
  if (!Number.isInteger(head.timestamp) || head.timestamp < 0 || head.timestamp > MAX_TIMESTAMP) {
    refuse('RECORD_TIMESTAMP', `${head.timestamp} is no timestamp; give whole milliseconds since 1970`);
  }
  requireLength('RECORD_KEY', 'the owner', head.owner, 32);
  requireAscending('RECORD_LINKS', 'links', head.links, MAX_LINKS, ID_BYTES);
  const claimKeys = head.selectors.map(({ claimKey }) => claimKey);
  requireAscending('RECORD_SELECTORS', 'selectors', claimKeys, MAX_SELECTORS, 32);
  for (const { ordinalTag } of head.selectors) {
    requireLength('RECORD_SELECTORS', 'an ordinal', ordinalTag, ORDINAL_TAG_BYTES);
  }
  requireMask(head);
}

export function requireTailForm({ type, selectors, value, claims, permit, signature }: DagRecord): void {
  requireValue(type, value);
  if (claims.length !== selectors.length) {
    refuse('RECORD_CLAIMS', `${selectors.length} selectors need as many claims, not ${claims.length}`);
  }
  for (const claim of claims) requireLength('RECORD_CLAIMS', 'a claim', claim, 64);
  requirePermit(permit);
  requireLength('RECORD_SIGNATURE_FORM', 'the signature', signature, 64);
}

function requireMask({ type, mask, selectors }: RecordHead): void {
  if (mask === 'none') return;
  // Every node has to read what the other types say.
  if (type !== 'datum') refuse('RECORD_MASK', `only the value of a datum can be masked, not of ${type}`);
  if (mask === 'key') return;
  const { selector } = mask;
  if (!Number.isInteger(selector) || selector < 0 || selector >= selectors.length) {
    refuse('RECORD_MASK', `the value is masked by selector ${selector}, of ${selectors.length}`);
  }
}

function requireValue(type: RecordType, value: RecordValue): void {
  const length = valueLength(value);
  if (!Number.isInteger(length) || length < 0 || length > MAX_VALUE_BYTES) {
    refuse('RECORD_VALUE', `a value has up to ${MAX_VALUE_BYTES} bytes, not ${length}; split it`);
  }
  if (value.kind === 'whole') return;
  requireLength('RECORD_VALUE', 'the hash of a value', value.hash, 32);
  // What membership and trust are judged by must stay; and nothing is no value that could be thrown away.
  if (type !== 'datum') refuse('RECORD_PRUNED', `only a datum can be without its value, not ${type}`);
  if (length === 0) refuse('RECORD_PRUNED', 'an empty value is always there');
}

function requirePermit(permit: Permit): void {
  if (permit.kind === 'certificate') {
    requireLength('RECORD_PERMIT', 'the identity of a certificate', permit.certificate, ID_BYTES);
  }
  if (permit.kind !== 'work') return;
  const { difficulty, nonce, solution } = permit;
  if (!Number.isInteger(difficulty) || difficulty < 1 || difficulty > 0xffffffff) {
    refuse('RECORD_PERMIT', `${difficulty} is no difficulty; it is 1 to ${0xffffffff}`);
  }
  requireLength('RECORD_PERMIT', 'the nonce', nonce, NONCE_BYTES);
  requireLength('RECORD_PERMIT', 'the solution', solution, SOLUTION_BYTES);
}

function requireAscending(
  code: string,
  what: string,
  items: readonly Uint8Array[],
  most: number,
  length: number,
): void {
  if (items.length > most) refuse(code, `a record has up to ${most} ${what}, not ${items.length}`);
  for (const [i, item] of items.entries()) {
    requireLength(code, `one of its ${what}`, item, length);
    if (i > 0 && Buffer.compare(items[i - 1]!, item) >= 0) {
      refuse(code, `its ${what} must be in ascending order, each once`);
    }
  }
}

function requireLength(code: string, what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) refuse(code, `${what} has ${bytes.length} bytes, not ${length}`);
}

function refuse(code: string, message: string): never {
  throw new DstackError(code, message);
}
