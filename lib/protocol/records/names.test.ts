import { describe, expect, test } from 'vitest';
import vectors from '../../../testdata/protocol/records.json' with { type: 'json' };
import { fromHex, toHex, utf8 } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import { decodeRecord, encodeRecord } from './codec.ts';
import { MAX_VALUE_BYTES, type RecordHead } from './format.ts';
import { makeRecord, withoutPermit } from './make.ts';
import { MASK_BYTES, maskValue, unmaskValue } from './mask.ts';
import { MAX_NAME_BYTES, nameKeys } from './names.ts';
import { openOrdinal } from './ordinals.ts';
import { bytesOf, draftOf, keysFor, OWNER, privateSpace, recordOf } from './records.fixture.ts';
import { verifySignatures } from './signatures.ts';

const refusalOf = (action: () => unknown): string => {
  try {
    action();
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};

const names = [
  { keys: keysFor('alpha'), ordinal: 1n },
  { keys: keysFor('beta'), ordinal: 77n },
];
const value = utf8('what only friends may read');
const bytesIn = (record: ReturnType<typeof recordOf>): Uint8Array => {
  if (record.value.kind !== 'whole') throw new Error('pruned');
  return record.value.bytes;
};

test.each(vectors.names)('vector: $name, $how', (vector) => {
  const secret = vector.secret === undefined ? {} : { secret: fromHex(vector.secret) };
  const keys = nameKeys(utf8(vector.name), { network: fromHex(vector.network), ...secret });
  expect(Object.fromEntries(Object.entries(keys).map(([part, key]) => [part, toHex(key)]))).toEqual(
    vector.keys,
  );
});

test.each(vectors.masked)('vector: a value masked by $by opens', (vector) => {
  const record = decodeRecord(fromHex(vector.record));
  expect(toHex(unmaskValue(fromHex(vector.key), record, bytesIn(record)))).toBe(vector.value);
});

describe('who does not know a name', () => {
  const record = recordOf({ names, value, mask: { name: names[0]!.keys } });
  const bytes = encodeRecord(record);

  test('finds neither it nor the value in the record', () => {
    const text = Buffer.from(bytes).toString('latin1');
    for (const hidden of ['alpha', 'beta', 'only friends']) expect(text).not.toContain(hidden);
    // Nor a key of the name but the one that it is found by.
    for (const { keys } of names) {
      for (const secret of [keys.claimSeed, keys.ordinalKey, keys.maskKey]) {
        expect(toHex(bytes)).not.toContain(toHex(secret));
      }
      expect(toHex(bytes)).toContain(toHex(keys.claimKey));
    }
  });

  test('cannot read the value or the ordinals with the keys of another name, network or secret', () => {
    const others = [
      keysFor('alphb'),
      names[1]!.keys,
      keysFor('alpha', { ...privateSpace, network: bytesOf('another network') }),
      keysFor('alpha', { ...privateSpace, secret: bytesOf('another secret') }),
    ];
    for (const other of others) {
      expect(refusalOf(() => unmaskValue(other.maskKey, record, bytesIn(record)))).toBe('RECORD_UNREADABLE');
      const tags = record.selectors.map(({ ordinalTag }) => openOrdinal(other.ordinalKey, ordinalTag));
      expect(tags).not.toContain(1n);
    }
  });

  test('who knows it reads both', () => {
    const keys = names[0]!.keys;
    expect(toHex(unmaskValue(keys.maskKey, record, bytesIn(record)))).toBe(toHex(value));
    const at = record.selectors.findIndex(({ claimKey }) => toHex(claimKey) === toHex(keys.claimKey));
    expect(record.mask).toEqual({ selector: at });
    expect(openOrdinal(keys.ordinalKey, record.selectors[at]!.ordinalTag)).toBe(1n);
  });
});

describe('a masked value', () => {
  const key = bytesOf('mask key');
  const record = recordOf({ value, mask: { key } });
  const masked = bytesIn(record);
  const opened = (head: RecordHead, bytes: Uint8Array) => refusalOf(() => unmaskValue(key, head, bytes));

  test('opens in its own record only', () => {
    expect(opened(record, masked)).toBe('accepted');
    for (const change of [
      { shared: true },
      { timestamp: record.timestamp + 1 },
      { owner: bytesOf('x') },
      { links: [] },
      { selectors: record.selectors.slice(1) },
      { mask: { selector: 0 } },
    ] as const) {
      expect(opened({ ...record, ...change }, masked)).toBe('RECORD_UNREADABLE');
    }
  });

  test('does not open with any part changed, and no key opens one that commits to another', () => {
    for (const at of [0, 23, 24, 55, 56, masked.length - 17, masked.length - 16, masked.length - 1]) {
      expect(opened(record, masked.with(at, masked[at]! ^ 1))).toBe('RECORD_UNREADABLE');
    }
    for (const length of [0, MASK_BYTES - 1, MASK_BYTES, masked.length - 1]) {
      expect(opened(record, masked.subarray(0, length))).toBe('RECORD_UNREADABLE');
    }
    expect(refusalOf(() => unmaskValue(bytesOf('other'), record, masked))).toBe('RECORD_UNREADABLE');
  });

  test('says by its commitment that the key is another one, before anything is decrypted', () => {
    const told = (at: number): string => {
      try {
        unmaskValue(key, record, masked.with(at, masked[at]! ^ 1));
        return 'opened';
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(told(24)).toContain('another key');
    expect(told(60)).toContain('was changed');
  });

  test('is other bytes each time, of any value up to the longest', () => {
    expect(toHex(maskValue(key, record, value))).not.toBe(toHex(maskValue(key, record, value)));
    for (const length of [0, 1, MAX_VALUE_BYTES - MASK_BYTES]) {
      const long = new Uint8Array(length).fill(7);
      const bytes = maskValue(key, record, long);
      expect(bytes.length).toBe(length + MASK_BYTES);
      expect(Buffer.compare(unmaskValue(key, record, bytes), long)).toBe(0);
    }
    const tooLong = new Uint8Array(MAX_VALUE_BYTES - MASK_BYTES + 1);
    expect(refusalOf(() => maskValue(key, record, tooLong))).toBe('RECORD_VALUE');
    expect(refusalOf(() => maskValue(key, { ...record, mask: 'none' }, value))).toBe('RECORD_MASK');
    expect(refusalOf(() => maskValue(key.subarray(1), record, value))).toBe('RECORD_MASK');
  });

  test('is of a name that the record has', () => {
    const other = keysFor('gamma');
    expect(refusalOf(() => recordOf({ mask: { name: other } }))).toBe('RECORD_MASK');
  });
});

test('names in any order make the same selectors, and each proves that its name was known', () => {
  const timestamp = 1;
  const a = makeRecord(draftOf({ names, timestamp }), OWNER, withoutPermit);
  const b = makeRecord(draftOf({ names: names.toReversed(), timestamp }), OWNER, withoutPermit);
  expect(toHex(encodeRecord(a))).toBe(toHex(encodeRecord(b)));
  expect(verifySignatures(a)).toHaveLength(32);
});

test('what is no name, no network and no secret is refused', () => {
  const of = (name: Uint8Array, change: object = {}) =>
    refusalOf(() => nameKeys(name, { ...privateSpace, ...change }));
  expect(of(new Uint8Array())).toBe('RECORD_NAME');
  expect(of(new Uint8Array(MAX_NAME_BYTES))).toBe('accepted');
  expect(of(new Uint8Array(MAX_NAME_BYTES + 1))).toBe('RECORD_NAME');
  expect(of(utf8('a'), { network: new Uint8Array(31) })).toBe('RECORD_NETWORK');
  expect(of(utf8('a'), { secret: new Uint8Array(31) })).toBe('RECORD_NETWORK');
});
