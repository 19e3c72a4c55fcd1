import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import {
  AREA_OFFSET,
  decodeSuperblock,
  encodeSuperblock,
  isBlank,
  providedSectors,
  readClaim,
  SUPERBLOCK_BYTES,
} from './superblock.ts';
import { areaSectorsOf, areaTable, cryptTable, diskKeys, integrityTable } from './tables.ts';

const key = new Uint8Array(randomBytes(32));
const superblock = {
  diskId: new Uint8Array(randomBytes(16)),
  epoch: 3,
  areaSectors: 522_240,
  providedSectors: 509_952,
  integritySuperblock: new Uint8Array(randomBytes(4096)),
};
const bytes = encodeSuperblock(superblock, key);

test('what is written is read', () => {
  expect(bytes).toHaveLength(SUPERBLOCK_BYTES);
  expect(decodeSuperblock(bytes, key)).toEqual(superblock);
  expect(readClaim(bytes)).toEqual({ diskId: superblock.diskId, epoch: 3 });
});

test('every single changed byte of the superblock is refused, of either half', () => {
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = changed[at]! ^ (1 << (at % 8));
    const code = at < 8 ? 'DISK_NO_SUPERBLOCK' : at < 12 ? 'DISK_VERSION' : 'DISK_UNAUTHENTIC';
    expect(() => decodeSuperblock(changed, key), `byte ${at}`).toThrowError(
      expect.objectContaining({ code }),
    );
  }
});

test("another network's key, and another disk's superblock, are refused", () => {
  expect(() => decodeSuperblock(bytes, new Uint8Array(32))).toThrowError(
    expect.objectContaining({ code: 'DISK_UNAUTHENTIC' }),
  );
});

test('noise never decodes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: SUPERBLOCK_BYTES + 10 }), (noise) => {
      expect(() => decodeSuperblock(noise, key)).toThrowError(
        expect.objectContaining({ code: expect.stringMatching(/^DISK_/) }),
      );
    }),
  );
});

test('blank means not one bit', () => {
  const start = new Uint8Array(AREA_OFFSET);
  expect(isBlank(start)).toBe(true);
  start[AREA_OFFSET - 1] = 1;
  expect(isBlank(start)).toBe(false);
});

test("the kernel's superblock is only believed when it is one", () => {
  const kernel = new Uint8Array(4096);
  expect(() => providedSectors(kernel)).toThrowError(expect.objectContaining({ code: 'DISK_FORMAT' }));
  kernel.set(utf8('integrt\0'));
  new DataView(kernel.buffer).setBigUint64(16, 12345n, true);
  expect(providedSectors(kernel)).toBe(12345);
});

test('tables: lengths in sectors, keys where the kernel wants them, and nothing overlaps', () => {
  const keys = diskKeys(key);
  const area = areaSectorsOf(256 * 1024 * 1024);
  expect(area).toBe((255 * 1024 * 1024) / 512);
  expect(areaTable('/dev/loop0', '/dev/vdb', area)).toBe(
    `0 8 linear /dev/loop0 0\n8 ${area - 8} linear /dev/vdb 2056`,
  );
  expect(integrityTable(keys, 8, 'D')).toBe(
    `0 8 integrity /dev/mapper/dstack-area 0 32 D 4 block_size:4096 journal_mac:hmac(sha256):${toHex(keys.journalMac)} fix_padding fix_hmac`,
  );
  expect(cryptTable(keys, 800)).toBe(
    `0 800 crypt capi:authenc(hmac(sha256),xts(aes))-plain64 ${toHex(keys.crypt)} 0 /dev/mapper/dstack-sealed 0 2 integrity:32:aead sector_size:4096`,
  );
  expect(new Set([keys.crypt, keys.journalMac, keys.superblockMac].map(toHex)).size).toBe(3);
});
