import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import vectors from '../../../testdata/protocol/records.json' with { type: 'json' };
import { fromHex, toHex } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import { decodeRecord, encodeRecord, MAX_RECORD_BYTES } from './codec.ts';
import type { DagRecord } from './format.ts';
import { bodyHash, recordId, withoutValue, workSeed } from './identity.ts';
import { bytesOf, formedRecords, recordOf } from './records.fixture.ts';

const refusalOf = (bytes: Uint8Array): string => {
  try {
    decodeRecord(bytes);
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};

describe.each(vectors.records)('vector: $what', (vector) => {
  test('has these bytes, this identity and this seed of work, also without its value', () => {
    const bytes = fromHex(vector.bytes);
    const record = decodeRecord(bytes);
    expect(toHex(encodeRecord(record))).toBe(vector.bytes);
    expect(record.type).toBe(vector.type);
    expect(toHex(recordId(record))).toBe(vector.id);
    const body = bodyHash(record, record.value);
    expect(toHex(body)).toBe(vector.bodyHash);
    expect(toHex(workSeed(body, record.claims, 7))).toBe(vector.workSeedOfDifficulty7);
    if (vector.pruned === undefined) return;
    const pruned = withoutValue(record);
    expect(toHex(encodeRecord(pruned))).toBe(vector.pruned);
    expect(toHex(recordId(pruned))).toBe(vector.id);
  });
});

test('what is encoded is decoded as it was, and has one identity with its value and without', () => {
  fc.assert(
    fc.property(formedRecords, (record) => {
      const bytes = encodeRecord(record);
      const back = decodeRecord(bytes);
      expect(back).toEqual(record);
      expect(toHex(encodeRecord(back))).toBe(toHex(bytes));
      if (record.type !== 'datum' || record.value.kind === 'pruned' || record.value.bytes.length === 0)
        return;
      const pruned = decodeRecord(encodeRecord(withoutValue(record)));
      expect(pruned.value.kind).toBe('pruned');
      expect(toHex(recordId(pruned))).toBe(toHex(recordId(record)));
    }),
  );
});

test('bytes that are not what a record is encoded as are refused, whatever is done to good ones', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      formedRecords.map(encodeRecord),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.constantFrom('flip', 'cut', 'insert', 'swap', 'append'),
      (good, where, by, how) => {
        // Most of what the decoder reads closely is in the first bytes.
        const at = where % (where % 2 === 0 ? Math.min(60, good.length) : good.length);
        const bad = spoiled(good, at, by, how);
        const code = refusalOf(bad);
        seen.add(code);
        if (code === 'accepted') expect(toHex(encodeRecord(decodeRecord(bad)))).toBe(toHex(bad));
        else expect(code).toMatch(/^RECORD_/);
      },
    ),
    { numRuns: 500 },
  );
  // Both happened: most changes of a hash are a record again, but none of a length.
  expect([...seen]).toEqual(expect.arrayContaining(['accepted', 'RECORD_TRUNCATED', 'RECORD_TRAILING']));
});

function spoiled(good: Uint8Array, at: number, by: number, how: string): Uint8Array {
  if (how === 'flip') return good.with(at, good[at]! ^ by);
  if (how === 'cut') return good.slice(0, at);
  if (how === 'append') return Uint8Array.from([...good, by]);
  if (how === 'insert') return Uint8Array.from([...good.subarray(0, at), by, ...good.subarray(at)]);
  return Uint8Array.from([...good.subarray(at), ...good.subarray(0, at)]);
}

test('noise is refused with a code', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => {
      expect(refusalOf(noise)).toMatch(/^RECORD_/);
      expect(refusalOf(Uint8Array.from([0x10, 1, 0, 0, ...noise]))).toMatch(/^RECORD_|^accepted$/);
    }),
  );
});

describe('one at a time', () => {
  const good = encodeRecord(recordOf());
  const byte = (at: number, value: number) => good.with(at, value);

  test.each<[string, () => Uint8Array, string]>([
    ['another version', () => byte(0, 0x20), 'RECORD_VERSION'],
    ['an unknown type', () => byte(1, 5), 'RECORD_TYPE'],
    ['an unknown flag', () => byte(2, 2), 'RECORD_FLAGS'],
    ['a mask by a selector that is not there', () => byte(3, 3), 'RECORD_MASK'],
    ['more links than there may be', () => byte(42, 16), 'RECORD_LINKS'],
    ['more selectors than there may be', () => byte(43, 16), 'RECORD_SELECTORS'],
    ['links in another order', () => swapped(good, 44, 32), 'RECORD_LINKS'],
    ['a link twice', () => doubled(good, 44, 32), 'RECORD_LINKS'],
    ['selectors in another order', () => swapped(good, 108, 40), 'RECORD_SELECTORS'],
    ['a selector twice', () => doubled(good, 108, 40), 'RECORD_SELECTORS'],
    ['a value longer than one may be', () => byte(189, 1).with(191, 1), 'RECORD_VALUE'],
    ['a permit of no kind', () => byte(good.length - 65, 3), 'RECORD_PERMIT'],
    ['a byte too many', () => Uint8Array.from([...good, 0]), 'RECORD_TRAILING'],
    ['a byte too few', () => good.subarray(0, good.length - 1), 'RECORD_TRUNCATED'],
    ['nothing', () => new Uint8Array(), 'RECORD_TRUNCATED'],
    ['more than a record has', () => new Uint8Array(MAX_RECORD_BYTES + 1), 'RECORD_SIZE'],
  ])('%s is refused', (_, bytes, code) => {
    expect(refusalOf(good)).toBe('accepted');
    expect(refusalOf(bytes())).toBe(code);
  });

  test.each<[string, Partial<DagRecord>, string]>([
    ['a type that is none', { type: 'rumour' as 'datum' }, 'RECORD_TYPE'],
    ['a time before 1970', { timestamp: -1 }, 'RECORD_TIMESTAMP'],
    ['half a millisecond', { timestamp: 0.5 }, 'RECORD_TIMESTAMP'],
    ['a time that does not fit', { timestamp: 2 ** 48 }, 'RECORD_TIMESTAMP'],
    ['an owner of 31 bytes', { owner: new Uint8Array(31) }, 'RECORD_KEY'],
    ['a link of 31 bytes', { links: [new Uint8Array(31)] }, 'RECORD_LINKS'],
    ['a claim too few', { claims: [new Uint8Array(64)] }, 'RECORD_CLAIMS'],
    ['a short signature', { signature: new Uint8Array(63) }, 'RECORD_SIGNATURE_FORM'],
    ['a value too long', { value: { kind: 'whole', bytes: new Uint8Array(65_537) } }, 'RECORD_VALUE'],
    ['an empty value pruned', { value: { kind: 'pruned', length: 0, hash: bytesOf('') } }, 'RECORD_PRUNED'],
    [
      'a genesis pruned',
      { type: 'genesis', value: { kind: 'pruned', length: 9, hash: bytesOf('') } },
      'RECORD_PRUNED',
    ],
    ['a certificate masked', { type: 'certificate', mask: 'key' }, 'RECORD_MASK'],
    [
      'work of no difficulty',
      {
        permit: { kind: 'work', difficulty: 0, nonce: new Uint8Array(16), solution: new Uint8Array(68) },
      },
      'RECORD_PERMIT',
    ],
  ])('%s is not written', (_, change, code) => {
    expect(() => encodeRecord({ ...recordOf(), ...change })).toThrowError(expect.objectContaining({ code }));
  });

  test('the largest that there is can be read', () => {
    const keys = Array.from({ length: 15 }, (__, i) => new Uint8Array(32).fill(i + 1));
    const largest: DagRecord = {
      ...recordOf(),
      links: keys,
      selectors: keys.map((claimKey) => ({ claimKey, ordinalTag: new Uint8Array(8) })),
      claims: keys.map(() => new Uint8Array(64)),
      value: { kind: 'whole', bytes: new Uint8Array(65_536) },
      permit: { kind: 'work', difficulty: 1, nonce: new Uint8Array(16), solution: new Uint8Array(68) },
    };
    const bytes = encodeRecord(largest);
    expect(bytes.length).toBe(MAX_RECORD_BYTES);
    expect(toHex(encodeRecord(decodeRecord(bytes)))).toBe(toHex(bytes));
  });
});

function swapped(bytes: Uint8Array, at: number, length: number): Uint8Array {
  const out = bytes.slice();
  out.set(bytes.subarray(at + length, at + 2 * length), at);
  out.set(bytes.subarray(at, at + length), at + length);
  return out;
}

function doubled(bytes: Uint8Array, at: number, length: number): Uint8Array {
  const out = bytes.slice();
  out.set(bytes.subarray(at, at + length), at + length);
  return out;
}
