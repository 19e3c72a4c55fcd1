import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex } from '../protocol/encoding.ts';
import { MemoryLog, put } from './log.fixture.ts';
import {
  bundled,
  hasTile,
  parseBundle,
  parseTilePath,
  TileHashes,
  tileOf,
  tilePath,
  tileWith,
} from './tiles.ts';

test('paths are those of the specification', () => {
  expect(tilePath({ level: 0, index: 1_234_067, width: 256 })).toBe('tile/0/x001/x234/067');
  expect(tilePath({ level: 1, index: 0, width: 17 })).toBe('tile/1/000.p/17');
  expect(tilePath({ level: 'entries', index: 999, width: 256 })).toBe('tile/entries/999');
  expect(tilePath({ level: 'entries', index: 1000, width: 1 })).toBe('tile/entries/x001/000.p/1');
});

test('a path has one spelling, and reads back', () => {
  const level = fc.oneof(fc.integer({ min: 0, max: 6 }), fc.constant('entries' as const));
  fc.assert(
    fc.property(level, fc.nat(), fc.integer({ min: 1, max: 256 }), (level, index, width) => {
      const tile = { level, index, width };
      expect(parseTilePath(tilePath(tile))).toEqual(tile);
    }),
  );
  const wrong = [
    'tile/0/1',
    'tile/0/x000/001',
    'tile/00/001',
    'tile/7/001',
    'tile/0/001.p/256',
    'tile/0/001.p/0',
  ];
  const more = [
    'tile/0/001.p/01',
    'tile/x/001',
    'tile/0/../001',
    '/tile/0/001',
    'tile/0/001/',
    'tile/0/x001',
    'checkpoint',
  ];
  for (const path of [...wrong, ...more]) expect(parseTilePath(path), path).toBeUndefined();
});

test('the tiles of a tree of 70,000 are those that the specification counts', () => {
  const size = 70_000;
  expect(tileOf(0, 272, size)?.width).toBe(256);
  expect(tileOf(0, 273, size)?.width).toBe(112);
  expect(tileOf(0, 274, size)).toBeUndefined();
  expect([tileOf(1, 0, size)?.width, tileOf(1, 1, size)?.width, tileOf(1, 2, size)]).toEqual([
    256,
    17,
    undefined,
  ]);
  expect([tileOf(2, 0, size)?.width, tileOf(2, 1, size), tileOf(3, 0, size)]).toEqual([
    1,
    undefined,
    undefined,
  ]);
  expect([tileOf(0, 0, 256)?.width, tileOf(1, 0, 256)?.width]).toEqual([256, 1]);
  expect(hasTile({ level: 0, index: 273, width: 112 }, size)).toBe(true);
  expect(hasTile({ level: 0, index: 273, width: 113 }, size)).toBe(false);
  expect(hasTile({ level: 'entries', index: 273, width: 112 }, size)).toBe(true);
});

test('every perfect subtree is found in its tile', () => {
  const log = new MemoryLog(Array.from({ length: 600 }, (_, at) => [put(`o/${at}`, `${at}`)]));
  const files = log.files();
  for (let level = 0; 2 ** level <= log.size; level += 1) {
    for (let index = 0; (index + 1) * 2 ** level <= log.size; index += 37) {
      const node = { level, index };
      const hash = new TileHashes(files.get(tilePath(tileWith(node, log.size)))!).of(node);
      expect(toHex(hash)).toBe(toHex(log.hashOf(node)));
    }
  }
  const [tile] = [files.get('tile/0/002.p/88')!];
  expect(() => new TileHashes(tile).of({ level: 3, index: 75 })).toThrowError(
    expect.objectContaining({ code: 'TILE_SHORT' }),
  );
});

test('a bundle is its entries, all of them and nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 20 }), (entries) => {
      const bytes = Buffer.concat(entries.map(bundled));
      expect(parseBundle(bytes, entries.length).map(toHex)).toEqual(entries.map(toHex));
      const refused = expect.objectContaining({ code: 'BUNDLE_INVALID' });
      expect(() => parseBundle(bytes, entries.length + 1)).toThrowError(refused);
      expect(() => parseBundle(bytes.subarray(0, -1), entries.length)).toThrowError(refused);
      expect(() => parseBundle(Buffer.concat([bytes, Buffer.of(0)]), entries.length)).toThrowError(refused);
    }),
  );
  expect(() => bundled(new Uint8Array(65_536))).toThrowError(
    expect.objectContaining({ code: 'ENTRY_TOO_LONG' }),
  );
});
