/**
 * The disk's own superblock: which disk this is, and an authenticated copy of everything that has to be known before
 * the first block can be decrypted. Pure.
 *
 *     0        header, 4096 bytes: fields below, zeros, HMAC-SHA-256 in the last 32
 *     4096     dm-integrity's superblock, 4096 bytes, as it was when the disk was formatted
 *     8192     zeros up to 1 MiB, where dm-integrity's area begins
 *
 * The HMAC is over both blocks, by a key that only nodes of this network can derive for this disk's id. dm-integrity's
 * own superblock on the disk is never read: the host could have changed it.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { bytesEqual, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

export const SECTOR = 512;
export const HEADER_BYTES = 4096;
/** SB_SECTORS of drivers/md/dm-integrity.c is 8. */
export const INTEGRITY_SUPERBLOCK_BYTES = 4096;
export const SUPERBLOCK_BYTES = HEADER_BYTES + INTEGRITY_SUPERBLOCK_BYTES;
/** Where dm-integrity's area begins, in bytes. */
export const AREA_OFFSET = 1024 * 1024;

const MAGIC = utf8('DSTKDSK1');
const VERSION = 1;
const MAC_BYTES = 32;
const MAC_AT = HEADER_BYTES - MAC_BYTES;

export interface Superblock {
  /** 16 random bytes, chosen when the disk was formatted. */
  diskId: Uint8Array;
  /** The epoch whose secret its key derives from. */
  epoch: number;
  /** Length of dm-integrity's area, in sectors of 512 bytes. */
  areaSectors: number;
  /** How much of that dm-integrity offers to its user, in sectors. */
  providedSectors: number;
  integritySuperblock: Uint8Array;
}

/** What may be read before the key is known: enough to ask for the key, and not trusted for anything else. */
export interface Claim {
  diskId: Uint8Array;
  epoch: number;
}

export function encodeSuperblock(superblock: Superblock, macKey: Uint8Array): Uint8Array {
  if (
    superblock.diskId.length !== 16 ||
    superblock.integritySuperblock.length !== INTEGRITY_SUPERBLOCK_BYTES
  ) {
    throw new DstackError('DISK_SUPERBLOCK', 'a disk id has 16 bytes and an integrity superblock 4096');
  }
  const out = new Uint8Array(SUPERBLOCK_BYTES);
  const view = new DataView(out.buffer);
  out.set(MAGIC, 0);
  view.setUint32(8, VERSION);
  out.set(superblock.diskId, 16);
  view.setBigUint64(32, BigInt(superblock.epoch));
  view.setBigUint64(40, BigInt(superblock.areaSectors));
  view.setBigUint64(48, BigInt(superblock.providedSectors));
  out.set(superblock.integritySuperblock, HEADER_BYTES);
  out.set(mac(out, macKey), MAC_AT);
  return out;
}

/** Whether the first bytes of a disk (at least 1 MiB of them) are all zero. */
export function isBlank(start: Uint8Array): boolean {
  return start.every((byte) => byte === 0);
}

/**
 * The id and epoch that a disk claims, so that the key can be derived.
 * @throws DISK_NO_SUPERBLOCK, DISK_VERSION
 */
export function readClaim(bytes: Uint8Array): Claim {
  if (bytes.length < SUPERBLOCK_BYTES || !bytesEqual(bytes.subarray(0, 8), MAGIC)) {
    throw new DstackError(
      'DISK_NO_SUPERBLOCK',
      'the data disk has no superblock of ours: it is new, wiped or another kind of disk. Nothing was written to it; only a blank disk with "disk": "create" in host.json is ever formatted',
    );
  }
  const view = viewOf(bytes);
  if (view.getUint32(8) !== VERSION) {
    throw new DstackError(
      'DISK_VERSION',
      `the data disk has layout version ${view.getUint32(8)}, this image knows ${VERSION}`,
    );
  }
  return { diskId: bytes.slice(16, 32), epoch: safeInteger(view, 32) };
}

/**
 * The superblock, once its HMAC has been checked.
 * @throws DISK_UNAUTHENTIC when it was changed, or the disk belongs to another network
 */
export function decodeSuperblock(bytes: Uint8Array, macKey: Uint8Array): Superblock {
  const claim = readClaim(bytes);
  if (
    !timingSafeEqual(mac(bytes.subarray(0, SUPERBLOCK_BYTES), macKey), bytes.subarray(MAC_AT, HEADER_BYTES))
  ) {
    throw new DstackError(
      'DISK_UNAUTHENTIC',
      "the data disk's superblock was not written by this network for this disk: it was changed, or belongs to another network. Nothing was written to it",
    );
  }
  const view = viewOf(bytes);
  return {
    ...claim,
    areaSectors: safeInteger(view, 40),
    providedSectors: safeInteger(view, 48),
    integritySuperblock: bytes.slice(HEADER_BYTES, SUPERBLOCK_BYTES),
  };
}

/**
 * How many sectors dm-integrity provides, from its own superblock (struct superblock of drivers/md/dm-integrity.c:
 * magic "integrt\0", then provided_data_sectors as little-endian 64 bits at 16).
 * @throws DISK_FORMAT when the kernel has not written one
 */
export function providedSectors(integritySuperblock: Uint8Array): number {
  if (!bytesEqual(integritySuperblock.subarray(0, 8), utf8('integrt\0'))) {
    throw new DstackError('DISK_FORMAT', 'dm-integrity did not write its superblock');
  }
  return Number(viewOf(integritySuperblock).getBigUint64(16, true));
}

function mac(bytes: Uint8Array, key: Uint8Array): Uint8Array {
  const hmac = createHmac('sha256', key);
  hmac.update(bytes.subarray(0, MAC_AT));
  hmac.update(bytes.subarray(HEADER_BYTES, SUPERBLOCK_BYTES));
  return new Uint8Array(hmac.digest());
}

/** A field of 8 bytes. A number too large for JavaScript to hold exactly becomes one that no disk can have. */
function safeInteger(view: DataView, at: number): number {
  const value = view.getBigUint64(at);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
