import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lengthPrefixed, sha256, toHex, uint64, utf8 } from '../protocol/encoding.ts';
import { buildLeaf, checkOpening, type Leaf, openingOf, parseLeaf } from './leaf.ts';
import { put, remove, salts, secret } from './log.fixture.ts';
import { NOTHING_PUBLIC, POLICY_KEY, policyAfter, policyValue, readPolicy } from './policy.ts';
import { type LedgerEvent, parseRecord, recordOf } from './record.ts';
import { SaltKey } from './salt.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const open = (prefix: string, leases = false) => ({ publicPrefixes: [Buffer.from(prefix)], leases });

const bytes = fc.uint8Array({ maxLength: 30 });
const id = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const event: fc.Arbitrary<LedgerEvent> = fc.record({
  type: fc.constantFrom('put' as const, 'delete' as const),
  key: bytes,
  value: bytes,
  lease: id,
  version: id,
  createRevision: id,
});

test('a record is the list of its fields', () => {
  fc.assert(
    fc.property(event, (event) => {
      const record = recordOf(event);
      const { type, key, value, lease, version, createRevision } = event;
      const fields = [Uint8Array.of(type === 'put' ? 0 : 1), key, sha256(value)];
      const integers = [lease, version, createRevision].map(uint64);
      expect(toHex(record)).toBe(toHex(lengthPrefixed([...fields, ...integers])));
      const { valueHash, ...rest } = parseRecord(record);
      expect({ ...rest, key: toHex(rest.key) }).toEqual({
        type,
        key: toHex(key),
        lease,
        version,
        createRevision,
      });
      expect(toHex(valueHash)).toBe(toHex(sha256(value)));
      expect(() => parseRecord(record.subarray(0, -1))).toThrowError(refusal('RECORD_INVALID'));
      expect(() => parseRecord(Buffer.concat([record, Buffer.of(0)]))).toThrowError(
        refusal('RECORD_INVALID'),
      );
    }),
  );
});

test('a salt is the HMAC of revision and index', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), id, fc.nat(), (key, revision, index) => {
      const said = Buffer.alloc(12);
      said.writeBigUInt64BE(revision);
      said.writeUInt32BE(index, 8);
      const expected = createHmac('sha256', key).update(said).digest('hex');
      expect(toHex(new SaltKey(key).salt(revision, index))).toBe(expected);
    }),
  );
});

test('each event of any revision opens, alone, and as no other', () => {
  fc.assert(
    fc.property(
      fc.array(event, { minLength: 1, maxLength: 6 }),
      fc.nat(),
      fc.boolean(),
      (events, at, leases) => {
        const built = buildLeaf(9n, events, open('a', leases), salts);
        const leaf = parseLeaf(built.entry);
        expect([leaf.revision, leaf.count, leaf.perRow]).toEqual([9n, events.length, 1]);
        const index = at % events.length;
        const opening = openingOf(leaf, built.records, index, salts);
        expect(toHex(recordOf(events[index]!))).toBe(toHex(opening.record));
        expect(toHex(checkOpening(leaf, opening).key)).toBe(toHex(events[index]!.key));
        const other = recordOf({ ...events[index]!, version: events[index]!.version ^ 1n });
        for (const forged of [
          { ...opening, record: other },
          { ...opening, index: events.length },
        ])
          expect(() => checkOpening(leaf, forged)).toThrowError(refusal('OPENING_INVALID'));
        const salt = opening.salt.map((byte) => byte ^ 1);
        for (const forged of [
          { ...opening, salt },
          { ...opening, path: [salt] },
        ])
          expect(() => checkOpening(leaf, forged)).toThrowError(refusal('OPENING_INVALID'));
      },
    ),
  );
});

describe('a revision of very many events', () => {
  const events = Array.from({ length: 2_500 }, (_, at) => remove(`o/${at}`));
  const built = buildLeaf(7n, events, open('o/', true), salts);
  const leaf = parseLeaf(built.entry);

  test('has an entry that fits a bundle, with rows over several', () => {
    expect(built.entry.length).toBeLessThan(65_536);
    expect([leaf.perRow, leaf.rows.length, leaf.readable.length]).toEqual([4, 625, 0]);
  });

  test.each([0, 3, 4, 1_023, 2_498, 2_499])('event %i opens', (index) => {
    const opening = openingOf(leaf, built.records, index, salts);
    expect(opening.path).toHaveLength(2);
    expect(Buffer.from(checkOpening(leaf, opening).key).toString()).toBe(`o/${index}`);
    const moved = { ...opening, index: index ^ 1 };
    expect(() => checkOpening(leaf, moved)).toThrowError(refusal('OPENING_INVALID'));
  });

  test('the largest entry that any events make fits too', () => {
    const most = Array.from({ length: 1_024 }, (_, at) => put(`p/${at}`, 'x'.repeat(at), { lease: 5n }));
    const { entry } = buildLeaf(7n, most, open('p/', true), salts);
    expect(entry.length).toBeLessThan(65_536);
    const { readable, leases } = parseLeaf(entry);
    expect(readable.length + leases.size).toBe(1_024);
  });
});

describe('what is readable', () => {
  const events = [
    put('o/hidden', 'secret', { lease: 77n }),
    put('o/public/a', 'shown'),
    put('o/public/b', 'x'.repeat(1_025)),
  ];

  test('is what is under a public prefix, with a value that is not too long', () => {
    const { entry } = buildLeaf(5n, events, open('o/public/'), salts);
    const { readable, leases } = parseLeaf(entry);
    const [first, second] = readable;
    expect(Buffer.from(first!.record.key).toString()).toBe('o/public/a');
    expect(Buffer.from(first!.value!).toString()).toBe('shown');
    expect([second!.index, second!.value, leases.size]).toEqual([2, undefined, 0]);
    for (const word of ['hidden', 'secret']) expect(Buffer.from(entry).includes(word)).toBe(false);
  });

  test('is what the entry commits to: another record, or another value, is refused', () => {
    const { entry } = buildLeaf(5n, [put('o/public/a', 'shown')], open('o/public/'), salts);
    for (const word of ['o/public/a', 'shown']) {
      const forged = Buffer.from(entry);
      forged[forged.lastIndexOf(word)]! ^= 1;
      expect(() => parseLeaf(forged), word).toThrowError(refusal('LEAF_INVALID'));
    }
  });

  test('an empty value is readable as such', () => {
    const [event] = parseLeaf(buildLeaf(5n, [put('o/p', '')], open('o/'), salts).entry).readable;
    expect(event!.value).toHaveLength(0);
  });

  test('leases, when the policy says so, and a false one is seen by who opens the event', () => {
    const built = buildLeaf(5n, events, open('o/public/', true), salts);
    const leaf = parseLeaf(built.entry);
    expect([...leaf.leases]).toEqual([[0, 77n]]);
    const opening = openingOf(leaf, built.records, 0, salts);
    const lying: Leaf = { ...leaf, leases: new Map([[0, 78n]]) };
    expect(checkOpening(leaf, opening).lease).toBe(77n);
    expect(() => checkOpening(lying, opening)).toThrowError(refusal('OPENING_INVALID'));
  });

  test('nothing else tells equal keys or values apart: each has a salt of its own', () => {
    const twice = (revision: bigint) =>
      parseLeaf(buildLeaf(revision, [events[0]!], NOTHING_PUBLIC, salts).entry);
    expect(toHex(twice(5n).rows[0]!)).not.toBe(toHex(twice(6n).rows[0]!));
    const same = parseLeaf(buildLeaf(5n, [events[0]!, events[0]!], NOTHING_PUBLIC, salts).entry);
    expect(toHex(same.rows[0]!)).not.toBe(toHex(same.rows[1]!));
    const elsewhere = parseLeaf(buildLeaf(5n, [events[0]!], NOTHING_PUBLIC, new SaltKey(secret)).entry);
    expect(toHex(elsewhere.rows[0]!)).not.toBe(toHex(twice(5n).rows[0]!));
  });

  test('the policy: a key of the store, readable itself, counting from the next revision on', () => {
    const wanted = open('o/public/', true);
    const change = { ...put('', ''), key: POLICY_KEY, value: policyValue(wanted) };
    const { entry } = buildLeaf(5n, [change], NOTHING_PUBLIC, salts);
    expect(toHex(parseLeaf(entry).readable[0]!.value!)).toBe(toHex(policyValue(wanted)));
    const after = policyAfter(NOTHING_PUBLIC, [put('o/x', 'y'), change]);
    expect(policyValue(after)).toEqual(policyValue(wanted));
    expect(policyAfter(after, [put('o/x', 'y')])).toBe(after);
    expect(policyAfter(after, [{ ...change, type: 'delete', value: utf8('') }])).toEqual(NOTHING_PUBLIC);
    for (const text of ['', '{}', '{"publicPrefixes":["zz"],"leases":true}', '\xff'])
      expect(readPolicy(Buffer.from(text, 'latin1'))).toEqual(NOTHING_PUBLIC);
  });
});

test('an entry of any other bytes is refused with a code, and never read beyond its end', () => {
  const { entry } = buildLeaf(5n, [put('o/a', 'b', { lease: 5n }), put('p/c', 'd')], open('p/', true), salts);
  expect(() => parseLeaf(Buffer.concat([entry, Buffer.of(0)]))).toThrowError(refusal('LEAF_INVALID'));
  for (let length = 0; length < entry.length; length += 1)
    expect(() => parseLeaf(entry.subarray(0, length))).toThrowError(refusal('LEAF_INVALID'));
  fc.assert(
    fc.property(fc.nat({ max: entry.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const forged = Buffer.from(entry);
      forged[at] = forged[at]! ^ flip;
      try {
        parseLeaf(forged);
      } catch (error) {
        expect((error as { code?: string }).code).toMatch(/^(LEAF|RECORD)_INVALID$/);
      }
    }),
    { numRuns: 500 },
  );
});
