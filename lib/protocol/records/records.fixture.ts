/** Records for tests: any that has a form, and some that are good. */
import fc from 'fast-check';
import { sha256, utf8 } from '../encoding.ts';
import type { DagRecord, Mask, Permit, RecordType, RecordValue } from './format.ts';
import { type Draft, makeRecord, type Permitter, withoutPermit } from './make.ts';
import { type NameKeys, type NameSpace, nameKeys } from './names.ts';

/** A seed, an identity: 32 bytes that are the same in every run. */
export const bytesOf = (label: string): Uint8Array => sha256(utf8(label));

/** Keyed, so that tests do not stretch names. */
export const privateSpace: NameSpace = { network: bytesOf('network'), secret: bytesOf('network secret') };

export const keysFor = (name: string, space: NameSpace = privateSpace): NameKeys =>
  nameKeys(utf8(name), space);

export const OWNER = bytesOf('owner');
export const NOON = Date.UTC(2026, 0, 1, 12);

export const draftOf = (change: Partial<Draft> = {}): Draft => ({
  type: 'datum',
  timestamp: NOON,
  links: [bytesOf('one'), bytesOf('another')],
  names: [
    { keys: keysFor('alpha'), ordinal: 1n },
    { keys: keysFor('beta'), ordinal: 2n ** 63n },
  ],
  value: utf8('a value'),
  ...change,
});

export const recordOf = (
  change: Partial<Draft> = {},
  permitter: Permitter = withoutPermit,
  owner: Uint8Array = OWNER,
): DagRecord => makeRecord(draftOf(change), owner, permitter);

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const ascending = (maxLength: number) =>
  fc
    .uniqueArray(bytes(32), { maxLength, selector: (item) => Buffer.from(item).toString('hex') })
    .map((items) => items.toSorted(Buffer.compare));

const permits: fc.Arbitrary<Permit> = fc.oneof(
  fc.constant({ kind: 'none' } as const),
  fc.record({ kind: fc.constant('certificate' as const), certificate: bytes(32) }),
  fc.record({
    kind: fc.constant('work' as const),
    difficulty: fc.integer({ min: 1, max: 0xffffffff }),
    nonce: bytes(16),
    solution: bytes(68),
  }),
);

const wholeValues: fc.Arbitrary<RecordValue> = fc.record({
  kind: fc.constant('whole' as const),
  bytes: fc.uint8Array({ maxLength: 100 }),
});
const prunedValues: fc.Arbitrary<RecordValue> = fc.record({
  kind: fc.constant('pruned' as const),
  length: fc.integer({ min: 1, max: 65_536 }),
  hash: bytes(32),
});

/** Of any form that there is; its signatures and work are noise. */
export const formedRecords: fc.Arbitrary<DagRecord> = fc
  .record({
    type: fc.constantFrom<RecordType>('datum', 'datum', 'genesis', 'commentary', 'certificate', 'revocation'),
    claimKeys: ascending(15),
    links: ascending(15),
    permit: permits,
  })
  .chain(({ type, claimKeys, links, permit }) => {
    const masks: fc.Arbitrary<Mask> =
      type !== 'datum'
        ? fc.constant('none')
        : fc.oneof(
            fc.constantFrom<Mask>('none', 'key'),
            ...claimKeys.map((_, selector) => fc.constant({ selector })),
          );
    return fc.record({
      type: fc.constant(type),
      shared: fc.boolean(),
      mask: masks,
      timestamp: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      owner: bytes(32),
      links: fc.constant(links),
      selectors: fc.tuple(
        ...claimKeys.map((claimKey) => bytes(8).map((ordinalTag) => ({ claimKey, ordinalTag }))),
      ),
      value: type === 'datum' ? fc.oneof(wholeValues, prunedValues) : wholeValues,
      claims: fc.tuple(...claimKeys.map(() => bytes(64))),
      permit: fc.constant(permit),
      signature: bytes(64),
    });
  });
