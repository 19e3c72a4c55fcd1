import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Weights } from './weights.ts';

interface Node {
  readonly parents: readonly number[];
  readonly work: number;
}

/** Any graph in which records stand on earlier ones. */
const graphs: fc.Arbitrary<Node[]> = fc
  .array(fc.record({ seeds: fc.array(fc.nat(), { maxLength: 4 }), work: fc.nat({ max: 1000 }) }), {
    minLength: 1,
    maxLength: 60,
  })
  .map((nodes) =>
    nodes.map(({ seeds, work }, row) => ({
      parents: row === 0 ? [] : [...new Set(seeds.map((seed) => seed % row))],
      work,
    })),
  );

/** As the words say it: the record, and every later one from which a way leads to it. */
function naiveWeight(nodes: readonly Node[], row: number): number {
  const ancestry = (from: number, seen = new Set<number>()): Set<number> => {
    if (seen.has(from)) return seen;
    seen.add(from);
    for (const parent of nodes[from]!.parents) ancestry(parent, seen);
    return seen;
  };
  return nodes.reduce((sum, { work }, from) => sum + (ancestry(from).has(row) ? work : 0), 0);
}

test('a weight is what the words say, whenever it was first asked for, and however few are followed', () => {
  fc.assert(
    fc.property(graphs, fc.integer({ min: 1, max: 5 }), fc.infiniteStream(fc.nat()), (nodes, most, asks) => {
      const weights = new Weights(most);
      for (const [row, { parents, work }] of nodes.entries()) {
        expect(weights.add(parents, work)).toBe(row);
        const asked = asks.next().value % (row + 1);
        expect(weights.weigh(asked)).toBe(naiveWeight(nodes.slice(0, row + 1), asked));
      }
      for (const row of nodes.keys()) expect(weights.weigh(row)).toBe(naiveWeight(nodes, row));
    }),
    { numRuns: 60 },
  );
});

test('one that is followed from its first record on is right after thousands', () => {
  const weights = new Weights(2);
  weights.add([], 5);
  weights.add([0], 7);
  expect(weights.weigh(1)).toBe(7);
  // Every third stands on the second, the others on the first alone.
  for (let row = 2; row < 5000; row++) weights.add([row % 3 === 0 ? 1 : 0], 1);
  expect(weights.weigh(1)).toBe(7 + 1666);
  expect(weights.weigh(0)).toBe(5 + 7 + 4998);
});

test('what stands on something that is not there is refused, and leaves nothing behind', () => {
  const weights = new Weights(1);
  weights.add([], 1);
  for (const bad of [[1], [-1], [0, 9], [0.5]]) {
    expect(() => weights.add(bad, 1)).toThrowError(expect.objectContaining({ code: 'RECORD_ROW' }));
  }
  expect(() => weights.weigh(1)).toThrowError(expect.objectContaining({ code: 'RECORD_ROW' }));
  expect(weights.rows).toBe(1);
  expect(weights.add([0], 2)).toBe(1);
  expect(weights.weigh(0)).toBe(3);
});
