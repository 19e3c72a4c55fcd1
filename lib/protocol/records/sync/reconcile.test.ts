import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, sha256, toHex, utf8 } from '../../encoding.ts';
import { codeOf } from '../../errors.ts';
import { ItemSet } from './item-set.ts';
import { BEGINNING, boundBetween, END, idAt, placeOf } from './places.ts';
import { decodeRanges, NEGENTROPY_VERSION, RangeWriter } from './ranges.ts';
import {
  answerReconciliation,
  type Difference,
  RECONCILE_LIMITS,
  type ReconcileLimits,
  Reconciliation,
} from './reconcile.ts';
import { decodeVarint, encodeVarint } from './varint.ts';

const idOf = (label: string | number) => sha256(utf8(`${label}`));
const NOON = 1_767_268_800_000;
/** Some at the same time, so that bounds need identities. */
const itemOf = (n: number) => placeOf(NOON + Math.floor(n / 3) * 50, idOf(n));
const hexOf = (place: Uint8Array) => toHex(idAt(place));
const refusal = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
};

interface Run extends Difference {
  readonly rounds: number;
  readonly bytes: number;
  readonly largest: number;
}

function reconcile(ours: ItemSet, theirs: ItemSet, limits: ReconcileLimits = RECONCILE_LIMITS): Run {
  const run = new Reconciliation(ours, limits);
  let [bytes, largest] = [0, 0];
  const sent = (message: Uint8Array): Uint8Array => {
    bytes += message.length;
    largest = Math.max(largest, message.length);
    return message;
  };
  let question: Uint8Array | undefined = run.open();
  while (question !== undefined) {
    question = run.next(sent(answerReconciliation(theirs, sent(question), limits.messageBytes)));
  }
  return { ...run.difference, rounds: run.rounds, bytes, largest };
}

const without = (all: readonly Uint8Array[], others: readonly Uint8Array[]): string[] => {
  const hidden = new Set(others.map(toHex));
  return all
    .filter((place) => !hidden.has(toHex(place)))
    .map(hexOf)
    .toSorted();
};

describe('numbers', () => {
  test('have one spelling', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
        const bytes = encodeVarint(value);
        expect(decodeVarint(bytes, 0)).toEqual({ value, end: bytes.length });
        expect(refusal(() => decodeVarint(Uint8Array.of(0x80, ...bytes), 0))).toBe('SYNC_VARINT');
        expect(refusal(() => decodeVarint(bytes.subarray(0, -1), 0))).toBe('SYNC_TRUNCATED');
      }),
    );
    expect(toHex(encodeVarint(300))).toBe('822c');
    expect(refusal(() => decodeVarint(Uint8Array.from([0x82, ...Array(8).fill(0x80), 0]), 0))).toBe(
      'SYNC_VARINT',
    );
  });
});

describe('a set', () => {
  const numbers = fc.uniqueArray(fc.nat({ max: 3000 }), { maxLength: 900 });

  test('is the same in whatever order and portions its items came', () => {
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 400 }), (some, portion) => {
        const items = some.map(itemOf);
        let set = ItemSet.empty;
        for (let i = 0; i < items.length; i += portion) set = set.with(items.slice(i, i + portion));
        const sorted = items.toSorted(Buffer.compare);
        expect(set.count).toBe(items.length);
        for (const [i, item] of sorted.entries()) {
          if (Buffer.compare(set.at(i), item) !== 0 || set.below(item) !== i) throw new Error(`at ${i}`);
        }
        expect([set.below(BEGINNING), set.below(END)]).toEqual([0, items.length]);
        expect(set.with(items.slice(0, 3)).count).toBe(items.length);
      }),
      { numRuns: 30 },
    );
  });

  test('has the fingerprints that the specification says, of any of its ranges', () => {
    const items = Array.from({ length: 700 }, (_, i) => itemOf(i)).toSorted(Buffer.compare);
    const set = ItemSet.empty.with(items.slice(300)).with(items.slice(0, 300));
    const byHand = (from: number, to: number): string => {
      let sum = 0n;
      for (const item of items.slice(from, to)) {
        sum += BigInt(`0x${toHex(Uint8Array.from(idAt(item)).reverse())}`);
      }
      const littleEndian = fromHex((sum % (1n << 256n)).toString(16).padStart(64, '0')).reverse();
      return toHex(sha256(littleEndian, encodeVarint(to - from)).subarray(0, 16));
    };
    for (const [from, to] of [
      [0, 0],
      [0, 700],
      [1, 2],
      [255, 257],
      [100, 600],
      [700, 700],
    ] as const) {
      expect(toHex(set.fingerprint(from, to))).toBe(byHand(from, to));
    }
  });

  test('does not change when another is made from it', () => {
    const set = ItemSet.empty.with([itemOf(1), itemOf(5)]);
    const before = toHex(set.fingerprint(0, 2));
    set.with([itemOf(3)]);
    expect([set.count, toHex(set.fingerprint(0, 2))]).toEqual([2, before]);
  });
});

test('a bound is as short as it can be', () => {
  const [one, same, later] = [placeOf(7, idOf('a')), placeOf(7, idOf('b')), placeOf(8, idOf('c'))];
  expect(toHex(boundBetween(same, later))).toBe(toHex(placeOf(8, new Uint8Array())));
  const [low, high] = [one, same].toSorted(Buffer.compare) as [Uint8Array, Uint8Array];
  expect(toHex(boundBetween(low, high))).toBe(toHex(placeOf(7, idAt(high).subarray(0, 1))));
});

test('the first question of few items is the specification’s, byte for byte', () => {
  const first = (items: Uint8Array[]) => toHex(new Reconciliation(ItemSet.empty.with(items)).open());
  expect(first([])).toBe('6100000200');
  const [a, b] = ['aa'.repeat(32), 'bb'.repeat(32)];
  expect(first([placeOf(0, fromHex(a)), placeOf(1, fromHex(b))])).toBe(`6100000202${a}${b}`);
});

test('any two sets find both differences, whatever the size of a message', () => {
  const numbers = fc.uniqueArray(fc.nat({ max: 1500 }), { maxLength: 700 });
  fc.assert(
    fc.property(numbers, numbers, fc.constantFrom(4096, 60_000), (some, others, messageBytes) => {
      const [ours, theirs] = [some.map(itemOf), others.map(itemOf)];
      const run = reconcile(ItemSet.empty.with(ours), ItemSet.empty.with(theirs), {
        ...RECONCILE_LIMITS,
        messageBytes,
      });
      expect([...run.missingHere].toSorted()).toEqual(without(theirs, ours));
      expect([...run.missingThere].toSorted()).toEqual(without(ours, theirs));
      expect(run.isWhole).toBe(true);
      expect(run.largest).toBeLessThanOrEqual(messageBytes);
    }),
    { numRuns: 60 },
  );
});

test('of a large difference it finds a part in each of few rounds, until there is none', () => {
  const theirs = ItemSet.empty.with(Array.from({ length: 5000 }, (_, i) => itemOf(i)));
  let ours = ItemSet.empty.with([itemOf(9000)]);
  const all = new Map<string, Uint8Array>(
    Array.from({ length: 5000 }, (_, i) => [toHex(idOf(i)), itemOf(i)]),
  );
  const limits = { ...RECONCILE_LIMITS, difference: 1000 };
  for (let i = 0; i < 5; i++) {
    const run = reconcile(ours, theirs, limits);
    expect(run.missingHere.size + run.missingThere.size).toBe(1000);
    expect(run.isWhole).toBe(false);
    ours = ours.with([...run.missingHere].map((id) => all.get(id)!));
  }
  expect(reconcile(ours, theirs).isWhole).toBe(true);
});

test('two sets of 100,000 that differ by ten cost less than 16 kB in four rounds at most', () => {
  const all = Array.from({ length: 100_005 }, (_, i) => itemOf(i));
  const ours = ItemSet.empty.with(all.filter((_, i) => i % 20_001 !== 7));
  const theirs = ItemSet.empty.with(all.filter((_, i) => i % 20_001 !== 11_000));
  const run = reconcile(ours, theirs);
  expect([run.missingHere.size, run.missingThere.size, run.isWhole]).toEqual([5, 5, true]);
  expect(run.bytes).toBeLessThan(16_384);
  expect(run.rounds).toBeLessThanOrEqual(4);
});

describe('a message is refused', () => {
  const hex = (text: string) => refusal(() => decodeRanges(fromHex(text)));

  test.each([
    ['of another version', '62000000', 'SYNC_VERSION'],
    ['that is empty', '', 'SYNC_VERSION'],
    ['whose number has a zero digit before it', '6180000000', 'SYNC_VARINT'],
    ['of an unknown mode', '61000003', 'SYNC_MODE'],
    ['that ends within a bound', '6105', 'SYNC_TRUNCATED'],
    ['that ends within a fingerprint', '61000001aabb', 'SYNC_TRUNCATED'],
    ['that says it has more identities than bytes', '6100000283ffffff7f', 'SYNC_TRUNCATED'],
    ['that says it has 2^63 identities', '6100000281808080808080808000', 'SYNC_TRUNCATED'],
    ['whose bound has a longer identity', `610121${'00'.repeat(33)}00`, 'SYNC_BOUND'],
    ['whose infinity has an identity', '61000100', 'SYNC_BOUND'],
    ['that goes on behind infinity', '61000000000000', 'SYNC_BOUND'],
    ['whose bounds are equal', '61050000010000', 'SYNC_BOUND'],
    ['whose bounds go back', '610501ff00010177' + '00', 'SYNC_BOUND'],
    ['whose first range is empty', '61010000', 'SYNC_BOUND'],
    ['whose time is infinity’s or above', '6181ffffffffffffffff7f00000281000000', 'SYNC_BOUND'],
  ])('%s', (_, text, code) => {
    expect(hex(text)).toBe(code);
  });

  test('or is read, whatever bytes it has', () => {
    const set = ItemSet.empty.with(Array.from({ length: 300 }, (_, i) => itemOf(i)));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
        const message = Uint8Array.of(NEGENTROPY_VERSION, ...noise);
        const code = refusal(() => {
          const answer = answerReconciliation(set, message, 4096);
          if (answer.length > 4096) throw new Error(`${answer.length} bytes`);
          decodeRanges(answer);
        });
        expect(code).toMatch(/^(none|SYNC_(VARINT|TRUNCATED|MODE|BOUND))$/);
      }),
    );
  });
});

describe('who makes answers up', () => {
  const ours = ItemSet.empty.with(Array.from({ length: 2000 }, (_, i) => itemOf(i)));

  test('ends after as many rounds as anybody', () => {
    const run = new Reconciliation(ours, { ...RECONCILE_LIMITS, rounds: 10 });
    run.open();
    const answer = new RangeWriter();
    answer.range(END, { kind: 'fingerprint', fingerprint: new Uint8Array(16) });
    let asked = 1;
    while (run.next(answer.finish()) !== undefined && asked < 50) asked += 1;
    expect([asked, run.difference.isWhole]).toEqual([10, false]);
    expect(refusal(() => run.next(answer.finish()))).toBe('SYNC_ROUNDS');
  });

  test('has no more said to be missing than the limit', () => {
    const limits = { ...RECONCILE_LIMITS, difference: 100 };
    for (const ids of [[], Array.from({ length: 1500 }, (_, i) => idOf(`made up ${i}`))]) {
      const run = new Reconciliation(ours, limits);
      run.open();
      const answer = new RangeWriter();
      answer.range(END, { kind: 'ids', ids });
      expect(run.next(answer.finish())).toBeUndefined();
      const { missingHere, missingThere, isWhole } = run.difference;
      expect([missingHere.size + missingThere.size, isWhole]).toEqual([100, false]);
    }
  });

  test('gets answers no larger than asked for, to a message full of ranges', () => {
    const question = new RangeWriter();
    // Each of twelve items, which make a longer answer than the question is.
    for (let i = 1; i <= 160; i++) {
      question.range(placeOf(NOON + i * 200, new Uint8Array()), {
        kind: 'fingerprint',
        fingerprint: new Uint8Array(16),
      });
    }
    expect(answerReconciliation(ours, question.finish(), 4096).length).toBeLessThanOrEqual(4096);
  });
});

test('who has the beginning alone is found to lack what follows it, in that order, and not what is far behind', () => {
  const all = Array.from({ length: 40_000 }, (_, n) => itemOf(n)).toSorted(Buffer.compare);
  // Somewhere within a part of the whole.
  const there = 6_400;
  const limits = { ...RECONCILE_LIMITS, difference: 1_000 };
  const ours = ItemSet.empty.with(all);
  const found = reconcile(ours, ItemSet.empty.with(all.slice(0, there)), limits);
  const places = new Map<string, number>(all.map((place, n) => [hexOf(place), n]));
  const last = Math.max(...[...found.missingThere].map((id) => places.get(id)!));
  expect(found.missingThere.size).toBe(1_000);
  // No more is left out than waits for it in little room.
  expect(last - there - found.missingThere.size).toBeLessThan(256);
  expect(found.rounds).toBeLessThan(10);
  // Of one that has nothing, the beginning.
  expect([...reconcile(ours, ItemSet.empty, limits).missingThere]).toEqual(all.slice(0, 1_000).map(hexOf));
});
