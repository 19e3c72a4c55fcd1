import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { LeaseIds, NEVER } from './lease-ids.ts';

const key = new Uint8Array(32).fill(5);
const one = new LeaseIds(key, utf8('a/one/'));
const two = new LeaseIds(key, utf8('a/two/'));
const anyId = fc.bigInt({ min: -(2n ** 63n) + 1n, max: 2n ** 63n - 1n });

test('an id comes back as it was, whichever way it goes first', () => {
  fc.assert(
    fc.property(anyId, (id) => {
      expect(one.client(one.upstream(id))).toBe(id);
      expect(one.upstream(one.client(id))).toBe(id);
    }),
    { numRuns: 2_000 },
  );
});

test('an id is 64 bits, never none and never the one that is not granted', () => {
  fc.assert(
    fc.property(anyId, (id) => {
      fc.pre(id !== 0n);
      const upstream = one.upstream(id);
      expect(BigInt.asIntN(64, upstream)).toBe(upstream);
      expect([0n, NEVER]).not.toContain(upstream);
    }),
    { numRuns: 2_000 },
  );
});

test('none stays none, and what is not granted stays so', () => {
  expect([one.upstream(0n), one.client(0n), one.upstream(NEVER), one.client(NEVER)]).toEqual([
    0n,
    0n,
    NEVER,
    NEVER,
  ]);
});

test('the same id is another one in another namespace, and under another key', () => {
  const ids = [1n, 2n, 3n, 1234n, 2n ** 62n];
  const all = [one, two, new LeaseIds(new Uint8Array(32), utf8('a/one/'))].flatMap((own) =>
    ids.map((id) => own.upstream(id)),
  );
  expect(new Set(all).size).toBe(all.length);
});

test('what a key makes of an id is for ever: it stands in history', () => {
  expect([1n, 7n, -1n].map((id) => one.upstream(id))).toMatchInlineSnapshot(`
    [
      1401368819231017278n,
      8294901444934224486n,
      -1792429573886294757n,
    ]
  `);
});
