/**
 * Ordinals under a name's key, so that who does not know the name can store and find them, by ranges too, without reading them.
 *
 * The tag of an ordinal is itself, each bit flipped or not by a pseudo-random function of the bits above it: the prefix-preserving
 * encryption that Crypto-PAn does for addresses (Xu, Fan, Ammar, Moon: "Prefix-Preserving IP Address Anonymization", ICNP 2002),
 * here for 64 bits and with AES-256. It is a permutation for each key, so who has the key reads the ordinal back. A range of
 * ordinals is at most 126 aligned blocks, each with a prefix of its own, and a prefix is again a prefix among the tags: so a range is
 * a few ranges of tags, which any ordered index can answer.
 *
 * What it shows, to everybody who has the records: of two tags **under the same name**, how many leading bits their ordinals share. So equal
 * ordinals are seen to be equal, and that 0, 1, 2 … are close together is seen too; but not which of two is the larger, and one tag
 * alone is a random number. Who learns one ordinal of a name in another way learns the shared bits of all others of that name.
 * Under different names nothing can be compared. What a query shows to who answers it: its blocks of tags, hence how many ordinals the range
 * has and how it is aligned, and which records fall into it; never where the range is. `name#` is one block of all
 * tags and shows nothing but the name's key. An order-preserving tag, which needs one range only, would show the order of all
 * ordinals and about how far apart they are, without any query.
 */
import { createCipheriv } from 'node:crypto';
import { DstackError } from '../errors.ts';
import { ORDINAL_TAG_BYTES } from './format.ts';

const BITS = 64;
const BLOCK = 16;
export const MAX_ORDINAL = 2n ** 64n - 1n;

/** Tags from the first to the last, both included. */
export interface TagRange {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
}

/** @param key 32 bytes, of names.ts. @throws RECORD_ORDINAL */
export function ordinalTag(key: Uint8Array, ordinal: bigint): Uint8Array {
  requireOrdinal(ordinal);
  const blocks = Buffer.alloc(BITS * BLOCK);
  for (let bit = 0; bit < BITS; bit++) writeBlock(blocks.subarray(bit * BLOCK), ordinal, bit);
  const encrypted = cipherOf(key).update(blocks);
  let flips = 0n;
  for (let bit = 0; bit < BITS; bit++) flips = (flips << 1n) | BigInt(encrypted[bit * BLOCK]! >> 7);
  return toBytes(ordinal ^ flips);
}

/** The ordinal that has this tag; every 8 bytes are the tag of one. */
export function openOrdinal(key: Uint8Array, tag: Uint8Array): bigint {
  if (tag.length !== ORDINAL_TAG_BYTES) {
    throw new DstackError(
      'RECORD_ORDINAL',
      `an ordinal's tag has ${ORDINAL_TAG_BYTES} bytes, not ${tag.length}`,
    );
  }
  const tagged = Buffer.from(tag).readBigUInt64BE();
  const cipher = cipherOf(key);
  const block = Buffer.alloc(BLOCK);
  let ordinal = 0n;
  for (let bit = 0; bit < BITS; bit++) {
    const place = BigInt(BITS - 1 - bit);
    writeBlock(block, ordinal, bit);
    const flip = BigInt(cipher.update(block)[0]! >> 7);
    ordinal |= (((tagged >> place) & 1n) ^ flip) << place;
  }
  return ordinal;
}

/** The tags of the ordinals `from` to `to`, both included, as ranges in ascending order. @throws RECORD_ORDINAL */
export function ordinalRanges(key: Uint8Array, from: bigint, to: bigint): TagRange[] {
  requireOrdinal(from);
  requireOrdinal(to);
  if (from > to) {
    throw new DstackError(
      'RECORD_ORDINAL',
      `the range begins at ${from} and ends before it, at ${to}; swap them`,
    );
  }
  const ranges = alignedBlocks(from, to).map(({ first, size }) => {
    const within = size - 1n;
    const tag = Buffer.from(ordinalTag(key, first)).readBigUInt64BE();
    return { from: tag & ~within, to: tag | within };
  });
  ranges.sort((a, b) => (a.from < b.from ? -1 : 1));
  return ranges.map((range) => ({ from: toBytes(range.from), to: toBytes(range.to) }));
}

/** The fewest aligned blocks of a power of two that make up the range. */
function alignedBlocks(from: bigint, to: bigint): { first: bigint; size: bigint }[] {
  const blocks: { first: bigint; size: bigint }[] = [];
  for (let first = from; first <= to; ) {
    let size = 1n;
    while (first % (size * 2n) === 0n && first + size * 2n - 1n <= to) size *= 2n;
    blocks.push({ first, size });
    first += size;
  }
  return blocks;
}

/** What the flip of one bit depends on: the bits above it, and which one it is. */
function writeBlock(block: Buffer, ordinal: bigint, bit: number): void {
  const below = BigInt(BITS - bit);
  block.writeBigUInt64BE((ordinal >> below) << below, 0);
  block[8] = bit;
}

/** AES as a pseudo-random function of single blocks that never repeat within a name; not as a mode of encryption. */
function cipherOf(key: Uint8Array) {
  return createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
}

function requireOrdinal(ordinal: bigint): void {
  if (ordinal < 0n || ordinal > MAX_ORDINAL) {
    throw new DstackError('RECORD_ORDINAL', `${ordinal} is no ordinal; it is 0 to ${MAX_ORDINAL}`);
  }
}

function toBytes(value: bigint): Uint8Array {
  const out = Buffer.alloc(ORDINAL_TAG_BYTES);
  out.writeBigUInt64BE(value);
  return new Uint8Array(out);
}
