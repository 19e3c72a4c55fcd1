import { isDeepStrictEqual } from 'node:util';
import { expect, test } from 'vitest';
import { type Answer, type Operation, type Step, withoutRevisions } from './history.ts';
import { checkHistory } from './linearizable.ts';
import { type Entries, execute, faults, type Simulation, simulate } from './simulated-store.ts';

type Short = [client: number, called: number, returned: number, step: Step, result?: string | number];

/** Plain reads and writes, by values alone; without a result where no answer came. */
function written(...list: Short[]): Operation[] {
  return list.map(([client, called, returned, one, result]) => ({
    client,
    called,
    returned,
    comparisons: [],
    success: [one],
    failure: [],
    ...(returned !== Infinity && { answer: { succeeded: true, results: [resultOf(one, result)] } }),
  }));
}

function resultOf(one: Step, result: string | number | undefined): Answer['results'][number] {
  if (one.kind === 'put') return { kind: 'put' };
  if (one.kind === 'delete') return { kind: 'delete', deleted: Number(result) };
  return result === undefined ? { kind: 'get' } : { kind: 'get', entry: { value: `${result}` } };
}

const put = (value: string, key = 'p/x'): Step => ({ kind: 'put', key, value });
const get = (key = 'p/x'): Step => ({ kind: 'get', key });
const remove: Step = { kind: 'delete', key: 'p/x' };

test('histories of the literature that are linearizable are accepted', () => {
  for (const history of [
    written([0, 0, 10, put('a')], [1, 5, 15, get(), 'a'], [2, 5, 15, get()]),
    written([0, 0, 100, put('a')], [1, 10, 20, get()], [1, 30, 40, get(), 'a']),
    written([0, 0, 10, put('a')], [0, 20, 60, put('b')], [1, 30, 40, get(), 'b'], [2, 30, 40, get(), 'a']),
    written([0, 0, 10, put('a')], [1, 20, 50, remove, 1], [2, 30, 40, get()]),
    // Without an answer: it happens late, or never.
    written([0, 0, Infinity, put('a')], [1, 10, 20, get()], [1, 30, 40, get(), 'a']),
    written([0, 0, Infinity, put('a')], [1, 10, 20, get()], [1, 30, 40, get()]),
  ])
    expect(checkHistory(history)).toEqual({ linearizable: true });
});

test('histories of the literature that are not linearizable are refused', () => {
  for (const history of [
    // A read after the write does not see it.
    written([0, 0, 10, put('a')], [1, 20, 30, get()]),
    // The old value after the new one was seen, while the write goes on.
    written([0, 0, 10, put('a')], [0, 20, 90, put('b')], [1, 30, 40, get(), 'b'], [2, 50, 60, get(), 'a']),
    // A value that nobody wrote.
    written([0, 0, 10, get(), 'a']),
    // Two deletions of one entry.
    written([0, 0, 10, put('a')], [1, 20, 30, remove, 1], [2, 20, 30, remove, 1]),
    // Not answered, seen, and gone again.
    written([0, 0, Infinity, put('a')], [1, 10, 20, get(), 'a'], [1, 30, 40, get()]),
    // Seen before it was called.
    written([0, 10, 20, get(), 'a'], [1, 30, 40, put('a')]),
    // Two readers see two writes in different orders.
    written(
      [0, 0, 9, put('0')],
      ...[10, 30].flatMap((at, n): Short[] => [
        [2, at, at + 9, get(), n === 0 ? 'a' : 'b'],
        [3, at, at + 9, get(), n === 0 ? 'b' : 'a'],
      ]),
      [0, 10, 90, put('a')],
      [1, 10, 90, put('b')],
    ),
  ])
    expect(checkHistory(history)).toMatchObject({ linearizable: false, partition: 'p/' });
});

test('partitions are judged apart, and an operation is of one', () => {
  const good = written([0, 0, 10, put('a', 'p/x')], [0, 20, 30, get('q/x')]);
  expect(checkHistory(good)).toEqual({ linearizable: true });
  const [one] = good;
  const both: Operation = { ...one!, success: [put('a', 'p/x'), put('a', 'q/x')] };
  expect(() => checkHistory([both])).toThrow('2 partitions');
});

test('a revision that goes back, is used twice, or is not the entry’s, is refused', () => {
  const at = (revision: number, called: number, one: Step, entry?: object): Operation => ({
    ...written([0, called, called + 5, one])[0]!,
    answer: { succeeded: true, revision, results: [{ kind: one.kind, ...(entry && { entry }) } as never] },
  });
  const entry = { value: 'a', create: 2, mod: 2, version: 1 };
  expect(checkHistory([at(2, 0, put('a')), at(2, 10, get(), entry)]).linearizable).toBe(true);
  for (const history of [
    [at(2, 0, put('a')), at(1, 10, get(), entry)],
    [at(2, 0, put('a')), at(2, 10, put('b'))],
    [at(3, 0, put('a')), at(3, 10, get(), entry)],
    [at(2, 0, put('a')), at(2, 10, get(), { ...entry, version: 2 })],
    [at(2, 0, put('a')), at(2, 10, get(), { ...entry, create: 1 })],
  ])
    expect(checkHistory(history).linearizable).toBe(false);
});

test('a revision that no answer named is found by later answers, and has to be one', () => {
  const unanswered = { ...written([0, 5, Infinity, put('b')])[0]! };
  const before: Operation = {
    ...written([1, 0, 4, put('a')])[0]!,
    answer: { succeeded: true, revision: 7, results: [{ kind: 'put' }] },
  };
  const seen = (called: number, revision: number, mod: number): Operation => ({
    ...written([1, called, called + 5, get()])[0]!,
    answer: {
      succeeded: true,
      revision,
      results: [{ kind: 'get', entry: { value: 'b', create: 7, mod, version: 2 } }],
    },
  });
  expect(checkHistory([before, unanswered, seen(10, 9, 8), seen(20, 9, 8)]).linearizable).toBe(true);
  expect(checkHistory([before, unanswered, seen(10, 9, 8), seen(20, 9, 9)]).linearizable).toBe(false);
  expect(checkHistory([before, unanswered, seen(10, 9, 7)]).linearizable).toBe(false);
  expect(checkHistory([before, unanswered, seen(10, 9, 10)]).linearizable).toBe(false);
});

const long: Omit<Simulation, 'seed'> = { clients: 8, operations: 60, keys: 6, unanswered: 0.03 };

test('every history of a correct store is accepted, with revisions and without', () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const history = simulate({ ...long, seed });
    expect(checkHistory(history), `seed ${seed}`).toEqual({ linearizable: true });
    expect(checkHistory(withoutRevisions(history)), `seed ${seed}`).toEqual({ linearizable: true });
  }
});

test.each(faults)(
  'every history of a store with the fault %s is refused, with revisions and without',
  (fault) => {
    for (let seed = 1; seed <= 30; seed += 1) {
      const history = simulate({ ...long, seed, fault });
      expect(checkHistory(history).linearizable, `seed ${seed}`).toBe(false);
      const values = withoutRevisions(simulate({ ...long, seed, fault, unanswered: 0 }));
      expect(checkHistory(values).linearizable, `seed ${seed}, values`).toBe(false);
    }
  },
);

test('of one changed answer in a long history it is refused', () => {
  let changed = 0;
  for (let seed = 1; seed <= 40; seed += 1) {
    const history = simulate({ ...long, seed });
    const index = history.findIndex(
      ({ answer }, n) => n > 200 && answer?.results[0]?.kind === 'get' && answer.results[0].entry,
    );
    const read = history[index]!;
    const older = history.find(
      ({ answer, returned }) =>
        answer?.results[0]?.kind === 'get' &&
        answer.results[0].entry !== undefined &&
        returned < read.called - 300 &&
        isDeepStrictEqual(read.success, history[index]!.success),
    );
    if (older === undefined) continue;
    changed += 1;
    const results = older.answer!.results;
    history[index] = { ...read, answer: { ...read.answer!, results } };
    expect(checkHistory(history).linearizable, `seed ${seed}`).toBe(false);
  }
  expect(changed).toBeGreaterThan(20);
});

test('it says the same as trying every order does, of thousands of short histories', () => {
  const counts = { accepted: 0, refused: 0 };
  for (let seed = 1; seed <= 4_000; seed += 1) {
    const fault = seed % 3 === 0 ? undefined : faults[seed % faults.length]!;
    const small = { seed, clients: 3, operations: 2, keys: seed % 2 === 0 ? 1 : 2, unanswered: 0.15 };
    const history = withoutRevisions(simulate({ ...small, ...(fault && { fault, rate: 0.5 }) }));
    const expected = hasOrder(history);
    counts[expected ? 'accepted' : 'refused'] += 1;
    expect(checkHistory(history).linearizable, `seed ${seed}`).toBe(expected);
  }
  expect(counts.accepted).toBeGreaterThan(1_500);
  expect(counts.refused).toBeGreaterThan(400);
});

/** Tries every order that time allows, on a store: no memory, no cleverness. */
function hasOrder(left: readonly Operation[], entries: Entries = new Map()): boolean {
  if (left.every(({ answer }) => answer === undefined)) return true;
  const end = Math.min(...left.map(({ returned }) => returned));
  return left.some((one) => {
    if (one.called > end) return false;
    const done = execute(one, entries, 1);
    const [bare] = withoutRevisions([{ ...one, answer: done.answer }]);
    if (one.answer !== undefined && !isDeepStrictEqual(one.answer, bare!.answer)) return false;
    return hasOrder(
      left.filter((other) => other !== one),
      done.entries,
    );
  });
}

test('a history that is too concurrent to decide is an error, not a verdict', () => {
  const history = simulate({ ...long, seed: 1 });
  expect(() => checkHistory(history, 10)).toThrow('not decided');
});
