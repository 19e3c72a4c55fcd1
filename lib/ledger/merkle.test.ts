import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import vectors from '../../testdata/ledger/rfc9162.json' with { type: 'json' };
import { fromHex, toHex } from '../protocol/encoding.ts';
import {
  consistencyNodes,
  Edge,
  EMPTY_ROOT,
  edgeOf,
  inclusionNodes,
  leafHash,
  type Node,
  nodeHash,
  proofOf,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from './merkle.ts';

const leaves = vectors.leaves.map((hex) => leafHash(fromHex(hex)));
const roots = vectors.roots.map((hex) => fromHex(hex));

/** MTH as section 2.1.1 defines it, by another hash function. */
function naive(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length === 0) return createHash('sha256').digest();
  if (hashes.length === 1) return hashes[0]!;
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  const [left, right] = [naive(hashes.slice(0, split)), naive(hashes.slice(split))];
  return createHash('sha256').update(Uint8Array.of(1)).update(left).update(right).digest();
}

const hashIn =
  (hashes: readonly Uint8Array[]) =>
  ({ level, index }: Node) =>
    naive(hashes.slice(index * 2 ** level, (index + 1) * 2 ** level));
const numbered = (size: number) =>
  Array.from({ length: size }, (_, at) => leafHash(Buffer.from(`leaf ${at}`)));

describe('the vectors of another implementation', () => {
  test('roots', () => {
    for (let size = 1; size <= leaves.length; size += 1)
      expect(toHex(rootOf(leaves.slice(0, size)))).toBe(toHex(roots[size - 1]!));
    expect(toHex(rootOf([]))).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  test.each(vectors.inclusion)('inclusion of $index in $size: $desc is $valid', (vector) => {
    const proof = vector.proof.map((hex) => fromHex(hex));
    const root = fromHex(vector.root);
    expect(verifyInclusion(vector.index, vector.size, fromHex(vector.leaf), proof, root)).toBe(vector.valid);
    if (!vector.valid) return;
    const made = proofOf(inclusionNodes(vector.index, vector.size), hashIn(leaves));
    expect(made.map(toHex)).toEqual(vector.proof);
  });

  test.each(vectors.consistency)('consistency of $first with $second: $desc is $valid', (vector) => {
    const proof = vector.proof.map((hex) => fromHex(hex));
    const [first, second] = [fromHex(vector.firstRoot), fromHex(vector.secondRoot)];
    expect(verifyConsistency(vector.first, vector.second, first, second, proof)).toBe(vector.valid);
    if (!vector.valid) return;
    const made = proofOf(consistencyNodes(vector.first, vector.second), hashIn(leaves));
    expect(made.map(toHex)).toEqual(vector.proof);
  });
});

describe('against a naive tree', () => {
  const size = fc.integer({ min: 1, max: 200 });

  test('an edge that grows has its roots, also when it is taken up again', () => {
    const hashes = numbered(70);
    const edge = new Edge();
    hashes.forEach((hash, at) => {
      expect(toHex(edge.root())).toBe(toHex(naive(hashes.slice(0, at))));
      const again = Edge.at(at, edgeOf(at).map(hashIn(hashes)));
      expect(again.size).toBe(at);
      again.append(hash);
      edge.append(hash);
      expect(toHex(again.root())).toBe(toHex(edge.root()));
    });
  });

  test('it tells of every perfect subtree once, when it is complete', () => {
    const hashes = numbered(21);
    const told = new Map<string, string>();
    const edge = new Edge(({ level, index }, hash) => {
      expect(told.has(`${level}/${index}`)).toBe(false);
      told.set(`${level}/${index}`, toHex(hash));
    });
    for (const hash of hashes) edge.append(hash);
    expect(told.size).toBe(21 + 10 + 5 + 2 + 1);
    for (const [name, hash] of told) {
      const [level, index] = name.split('/').map(Number) as [number, number];
      expect(hash).toBe(toHex(hashIn(hashes)({ level, index })));
    }
  });

  test('every proof of inclusion holds, and for no other leaf, place or root', () => {
    fc.assert(
      fc.property(size, fc.nat(), fc.nat(), (size, at, other) => {
        const hashes = numbered(size);
        const [index, elsewhere] = [at % size, other % size];
        const proof = proofOf(inclusionNodes(index, size), hashIn(hashes));
        const root = naive(hashes);
        expect(verifyInclusion(index, size, hashes[index]!, proof, root)).toBe(true);
        expect(verifyInclusion(elsewhere, size, hashes[index]!, proof, root)).toBe(elsewhere === index);
        expect(verifyInclusion(index, size, hashes[elsewhere]!, proof, root)).toBe(elsewhere === index);
        expect(verifyInclusion(index, size, hashes[index]!, [...proof, root], root)).toBe(false);
        if (proof.length > 0) {
          expect(verifyInclusion(index, size, hashes[index]!, proof.slice(1), root)).toBe(false);
          expect(verifyInclusion(index, size, hashes[index]!, proof, proof[0]!)).toBe(false);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('every proof of consistency holds, and for no history with another leaf', () => {
    fc.assert(
      fc.property(size, fc.nat(), fc.nat(), (second, from, changed) => {
        const first = from % (second + 1);
        const hashes = numbered(second);
        const nodes = consistencyNodes(first, second);
        const proof = proofOf(nodes, hashIn(hashes));
        const [firstRoot, secondRoot] = [naive(hashes.slice(0, first)), naive(hashes)];
        expect(verifyConsistency(first, second, firstRoot, secondRoot, proof)).toBe(true);
        if (first === 0) return;
        const forked = hashes.with(changed % first, leafHash(Buffer.from('another')));
        const forkedRoot = naive(forked);
        // Whatever proof the forked history has, it does not lead from the first root.
        expect(verifyConsistency(first, second, firstRoot, forkedRoot, proof)).toBe(false);
        expect(verifyConsistency(first, second, firstRoot, forkedRoot, proofOf(nodes, hashIn(forked)))).toBe(
          false,
        );
      }),
      { numRuns: 200 },
    );
  });
});

test('sizes beyond 32 bits have their proofs', () => {
  const size = 2 ** 40 + 5;
  const hash = ({ level, index }: Node) => leafHash(Buffer.from(`${level}/${index}`));
  // Such a tree can't be made; the root of its first 2^40 leaves is taken as one hash.
  const left = hash({ level: 40, index: 0 });
  const right = proofOf([edgeOf(size).slice(1)], hash)[0]!;
  const proof = proofOf(inclusionNodes(size - 1, size), hash);
  expect(
    verifyInclusion(size - 1, size, hash({ level: 0, index: size - 1 }), proof, nodeHash(left, right)),
  ).toBe(true);
  expect(inclusionNodes(2 ** 39, size).map((nodes) => nodes.length)).toEqual([...Array(40).fill(1), 2]);
});

test('what is no place in a tree is refused', () => {
  expect(() => inclusionNodes(3, 3)).toThrowError(expect.objectContaining({ code: 'MERKLE_RANGE' }));
  expect(() => inclusionNodes(-1, 3)).toThrowError(expect.objectContaining({ code: 'MERKLE_RANGE' }));
  expect(() => consistencyNodes(4, 3)).toThrowError(expect.objectContaining({ code: 'MERKLE_RANGE' }));
  expect(() => edgeOf(2 ** 53)).toThrowError(expect.objectContaining({ code: 'MERKLE_RANGE' }));
  expect(verifyInclusion(0.5, 1, EMPTY_ROOT, [], EMPTY_ROOT)).toBe(false);
});
