/**
 * The device-mapper tables, and the keys in them. Pure.
 *
 *     /dev/vdX ──linear──► dstack-area ──integrity──► dstack-sealed ──crypt──► dstack-data ──► ext4
 *     tmpfs loop ───┘ (its first 8 sectors)
 *
 * dm-crypt encrypts and authenticates each 4 KiB block with its number (encrypt-then-MAC: AES-256-XTS and HMAC-SHA-256);
 * dm-integrity stores the tags and its journal makes block and tag change together. The journal is authenticated by a
 * key of its own. It is not encrypted a second time: the host sees which blocks are written anyway. Sources:
 * Documentation/admin-guide/device-mapper/{dm-integrity,dm-crypt}.rst, and cryptsetup's `aes-xts-plain64` with `hmac-sha256`,
 * which this is without the LUKS header.
 */
import { hkdfSync } from 'node:crypto';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { AREA_OFFSET, INTEGRITY_SUPERBLOCK_BYTES, SECTOR } from './superblock.ts';

/** 4 KiB blocks, with a tag each: an eighth of the hashing that 512-byte sectors would cost. */
export const BLOCK = 4096;
const TAG_BYTES = 32;

export const names = { area: 'dstack-area', sealed: 'dstack-sealed', data: 'dstack-data' } as const;
export const pathOf = (name: string): string => `/dev/mapper/${name}`;

export interface DiskKeys {
  superblockMac: Uint8Array;
  /** As dm-crypt takes an authenc key: AES-256-XTS (64 bytes), then HMAC-SHA-256 (32). */
  crypt: Uint8Array;
  journalMac: Uint8Array;
}

/** Everything that one disk needs, from its key of 32 bytes (HKDF-SHA256, RFC 5869). */
export function diskKeys(diskKey: Uint8Array): DiskKeys {
  const derive = (purpose: string, length: number) =>
    new Uint8Array(hkdfSync('sha256', diskKey, utf8('dstack/v1/disk'), utf8(purpose), length));
  return {
    superblockMac: derive('superblock', 32),
    crypt: derive('crypt', 96),
    journalMac: derive('journal', 32),
  };
}

/** Sectors of dm-integrity's area on a device of that many bytes, rounded down to whole blocks. */
export function areaSectorsOf(deviceBytes: number): number {
  return Math.floor((deviceBytes - AREA_OFFSET) / BLOCK) * (BLOCK / SECTOR);
}

/** The area as dm-integrity is to see it: its superblock from our checked copy, all else from the disk. */
export function areaTable(loop: string, disk: string, areaSectors: number): string {
  const head = INTEGRITY_SUPERBLOCK_BYTES / SECTOR;
  const start = AREA_OFFSET / SECTOR;
  return [`0 ${head} linear ${loop} 0`, `${head} ${areaSectors - head} linear ${disk} ${start + head}`].join(
    '\n',
  );
}

/**
 * @param mode `D` writes straight through and is for the first wipe only; `J` keeps block and tag together by a journal
 * @param sectors one block (8) on the first activation, which writes the superblock; after that, what the superblock says
 */
export function integrityTable(keys: DiskKeys, sectors: number, mode: 'D' | 'J'): string {
  const options = [
    `block_size:${BLOCK}`,
    `journal_mac:hmac(sha256):${toHex(keys.journalMac)}`,
    // Mixes section numbers into the MACs, so that journal sections can't be swapped.
    'fix_padding',
    'fix_hmac',
  ];
  return `0 ${sectors} integrity ${pathOf(names.area)} 0 ${TAG_BYTES} ${mode} ${options.length} ${options.join(' ')}`;
}

export function cryptTable(keys: DiskKeys, sectors: number): string {
  const cipher = 'capi:authenc(hmac(sha256),xts(aes))-plain64';
  return `0 ${sectors} crypt ${cipher} ${toHex(keys.crypt)} 0 ${pathOf(names.sealed)} 0 2 integrity:${TAG_BYTES}:aead sector_size:${BLOCK}`;
}
