import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { idOf } from '../../lib/protocol/records/network.fixture.ts';
import { bytesOf } from '../../lib/protocol/records/records.fixture.ts';
import { chainOf, GENESIS } from './chain.fixture.ts';
import { RecordIndex } from './index.ts';
import { answer } from './query.ts';
import { freshFolder } from './records.fixture.ts';

test('two names of a record whose keys begin alike, with one tag, are one row and two names', () => {
  // Whoever looks for long enough finds two such keys and can sign by both; here nobody asks for the signatures.
  const [one, other, third] = [0, 1, 2].map((last) => bytesOf('claim key').with(31, last)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const tag = new Uint8Array(8).fill(7);
  const selectors = [one, other].map((claimKey) => ({ claimKey, ordinalTag: tag }));
  const claims = selectors.map(() => new Uint8Array(64));
  const alike: DagRecord = { ...chainOf(1)[0]!, selectors, claims };
  const later: DagRecord = {
    ...alike,
    timestamp: alike.timestamp + 1,
    selectors: selectors.slice(1),
    claims: claims.slice(1),
  };
  const records = [GENESIS, alike, later];
  const encoded = records.map(encodeRecord);

  const index = RecordIndex.make(join(freshFolder(), 'index.sqlite'));
  onTestFinished(() => index.close());
  const entries = records.map((record, i) => ({
    id: idOf(record),
    record: decodeRecord(encoded[i]!),
    place: { at: i, length: encoded[i]!.length },
    synchronised: true,
    discarded: false,
  }));
  expect(() => index.insert(entries, { salt: '00', end: records.length })).not.toThrow();
  expect(index.count).toBe(3);

  const found = (...keys: Uint8Array[]): string[] => {
    const names = keys.map((claimKey) => ({ claimKey, tags: [{ from: tag, to: tag }] }));
    const { sets } = answer({ index, read: ({ at }) => encoded[at]!, weigh: () => 0 }, { names });
    return sets.flat().map(({ id }) => id);
  };
  expect(found(one)).toEqual([idOf(alike)]);
  expect(found(other)).toEqual([idOf(alike), idOf(later)]);
  expect(found(one, other)).toEqual([idOf(alike)]);
  expect(found(third)).toEqual([]);
});
