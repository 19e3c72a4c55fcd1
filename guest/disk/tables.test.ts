import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { AREA_OFFSET } from './superblock.ts';
import { areaSectorsOf, areaTable, cryptTable, diskKeys, integrityTable } from './tables.ts';

const keys = diskKeys(fromHex('07'.repeat(32)));

test("the keys of a disk are its own, and each other's strangers", () => {
  const other = diskKeys(fromHex('08'.repeat(32)));
  const all = [keys, other].flatMap(({ superblockMac, crypt, journalMac }) => [
    superblockMac,
    crypt.subarray(0, 32),
    crypt.subarray(32, 64),
    crypt.subarray(64),
    journalMac,
  ]);
  expect(new Set(all.map(toHex)).size).toBe(10);
  expect(keys.crypt).toHaveLength(96);
});

test('the area is mapped block for block, its superblock alone from the copy', () => {
  expect(areaTable('/dev/loop0', '/dev/vdb', 1000)).toBe(
    '0 8 linear /dev/loop0 0\n8 992 linear /dev/vdb 2056',
  );
  fc.assert(
    fc.property(fc.integer({ min: 32 * 2 ** 20, max: 2 ** 44 }), (bytes) => {
      const sectors = areaSectorsOf(bytes);
      expect(sectors % 8).toBe(0);
      expect(AREA_OFFSET + sectors * 512).toBeLessThanOrEqual(bytes);
      const rows = areaTable('/dev/loop0', '/dev/vdb', sectors)
        .split('\n')
        .map((row) => row.split(' '));
      // No gap and no overlap, and every sector of the disk keeps its offset from the start of the area.
      expect(Number(rows[1]![0])).toBe(Number(rows[0]![1]));
      expect(Number(rows[1]![1])).toBe(sectors - 8);
      expect(Number(rows[1]![4]) - Number(rows[1]![0])).toBe(AREA_OFFSET / 512);
    }),
  );
});

test('dm-integrity: as many options as announced, tags of 32 bytes, a keyed journal MAC', () => {
  for (const mode of ['D', 'J'] as const) {
    const [start, length, target, device, reserved, tag, written, count, ...options] = integrityTable(
      keys,
      4096,
      mode,
    ).split(' ');
    expect([start, length, target, device, reserved, tag, written]).toEqual([
      '0',
      '4096',
      'integrity',
      '/dev/mapper/dstack-area',
      '0',
      '32',
      mode,
    ]);
    expect(options).toHaveLength(Number(count));
    expect(options).toContain(`journal_mac:hmac(sha256):${toHex(keys.journalMac)}`);
    expect(options).toContain('fix_hmac');
    expect(options).toContain('block_size:4096');
  }
});

test('dm-crypt: authenticated, and its tags fit what dm-integrity stores', () => {
  expect(cryptTable(keys, 4096)).toBe(
    `0 4096 crypt capi:authenc(hmac(sha256),xts(aes))-plain64 ${toHex(keys.crypt)} 0 /dev/mapper/dstack-sealed 0 2 integrity:32:aead sector_size:4096`,
  );
});
