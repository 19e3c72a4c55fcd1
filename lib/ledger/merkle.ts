/**
 * The append-only Merkle tree of RFC 9162, section 2.1, over SHA-256: its hashes, its right edge, and proofs made and checked.
 *
 * A tree of n leaves is held as its right edge: the roots of the perfect subtrees that n is made of, as a binary number is of its
 * digits. A proof is a list of hashes of perfect subtrees, and which ones is decided here, without reading any:
 * whoever has tiles (tiles.ts) brings the hashes. Sizes and indices are safe integers, so nothing is shifted by the operators of 32 bits.
 */
import { hash } from 'node:crypto';
import { bytesEqual } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';

export const HASH_BYTES = 32;

/** A perfect subtree of 2^level leaves, the `index`-th of its level. */
export interface Node {
  readonly level: number;
  readonly index: number;
}

/** SHA-256 in one call: some 2 µs where an object that is updated takes more, and a revision needs a handful. */
export function sha256Of(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer');
}

/** MTH({}): the root of the tree without leaves. */
export const EMPTY_ROOT: Uint8Array = new Uint8Array(sha256Of(new Uint8Array()));

/** SHA-256(0x00 ‖ entry). */
export function leafHash(entry: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(1 + entry.length);
  bytes[0] = 0;
  bytes.set(entry, 1);
  return sha256Of(bytes);
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(1 + 2 * HASH_BYTES);
  bytes[0] = 1;
  bytes.set(left, 1);
  bytes.set(right, 1 + HASH_BYTES);
  return sha256Of(bytes);
}

/** Told of each perfect subtree when it is complete, leaves first. */
export type OnNode = (node: Node, hash: Uint8Array) => void;

/** A tree that grows, of which only the right edge is in memory: some 20 hashes at a million leaves. */
export class Edge {
  #size = 0;
  /** By level; absent where the size has a zero digit. */
  readonly #roots: (Uint8Array | undefined)[] = [];
  readonly #onNode: OnNode;

  constructor(onNode: OnNode = () => {}) {
    this.#onNode = onNode;
  }

  /** The edge of a tree that is already there: `roots` are the hashes of `edgeOf(size)`. */
  static at(size: number, roots: readonly Uint8Array[], onNode?: OnNode): Edge {
    const edge = new Edge(onNode);
    edge.#size = size;
    edgeOf(size).forEach(({ level }, at) => {
      edge.#roots[level] = roots[at]!;
    });
    return edge;
  }

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array): void {
    let node: Node = { level: 0, index: this.#size };
    let top = leaf;
    this.#onNode(node, top);
    for (let left = this.#roots[0]; left !== undefined; left = this.#roots[node.level]) {
      this.#roots[node.level] = undefined;
      node = { level: node.level + 1, index: (node.index - 1) / 2 };
      top = nodeHash(left, top);
      this.#onNode(node, top);
    }
    this.#roots[node.level] = top;
    this.#size += 1;
  }

  root(): Uint8Array {
    return foldRoots(edgeOf(this.#size).map(({ level }) => this.#roots[level]!));
  }
}

/** The perfect subtrees that a tree of this size consists of, from left to right. */
export function edgeOf(size: number): Node[] {
  return cover(0, checkedSize(size));
}

/** The root over neighbouring perfect subtrees, from left to right: each joins what is on its right. */
export function foldRoots(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length === 0) return EMPTY_ROOT;
  return hashes.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), hashes.at(-1)!);
}

/** The hashes of a proof, given those of perfect subtrees. */
export function proofOf(
  nodes: readonly (readonly Node[])[],
  hashOf: (node: Node) => Uint8Array,
): Uint8Array[] {
  return nodes.map((parts) => foldRoots(parts.map(hashOf)));
}

/** The root over any leaves, given their hashes. */
export function rootOf(leaves: readonly Uint8Array[]): Uint8Array {
  const edge = new Edge();
  for (const leaf of leaves) edge.append(leaf);
  return edge.root();
}

/**
 * What an inclusion proof is made of (section 2.1.3.1), from the leaf's sibling up. Each hash of it is that of a range of leaves, which at
 * the right edge is no perfect subtree: `foldRoots` over the hashes of these nodes.
 * @throws MERKLE_RANGE for a leaf that is not in the tree
 */
export function inclusionNodes(index: number, size: number): Node[][] {
  checkedSize(size);
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
    throw new DstackError('MERKLE_RANGE', `leaf ${index} is not in a tree of ${size}`);
  }
  const proof: Node[][] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + splitOf(end - start);
    if (index < middle) {
      proof.push(cover(middle, end));
      end = middle;
    } else {
      proof.push(cover(start, middle));
      start = middle;
    }
  }
  return proof.reverse();
}

/** What a consistency proof is made of (section 2.1.4.1), in its order. Empty from the empty tree, and between equal sizes. */
export function consistencyNodes(first: number, second: number): Node[][] {
  checkedSize(second);
  if (!Number.isSafeInteger(first) || first < 0 || first > second) {
    throw new DstackError('MERKLE_RANGE', `a tree of ${second} has no earlier one of ${first}`);
  }
  if (first === 0 || first === second) return [];
  const proof: Node[][] = [];
  let [start, end] = [0, second];
  /** Whether the first tree still is the whole left part, whose root the verifier has. */
  let known = true;
  while (first !== end) {
    const middle = start + splitOf(end - start);
    if (first <= middle) {
      proof.push(cover(middle, end));
      end = middle;
    } else {
      proof.push(cover(start, middle));
      start = middle;
      known = false;
    }
  }
  if (!known) proof.push(cover(start, end));
  return proof.reverse();
}

/** The root that an inclusion proof leads to (section 2.1.3.2); undefined when its length does not fit. */
export function rootFromInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
): Uint8Array | undefined {
  if (!isSize(index) || !isSize(size) || index >= size) return undefined;
  let [fn, sn] = [index, size - 1];
  let root = leaf;
  for (const sibling of proof) {
    if (sn === 0 || sibling.length !== HASH_BYTES) return undefined;
    if (isOdd(fn) || fn === sn) {
      root = nodeHash(sibling, root);
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      root = nodeHash(root, sibling);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 ? root : undefined;
}

export function verifyInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  const found = rootFromInclusion(index, size, leaf, proof);
  return found !== undefined && bytesEqual(found, root);
}

/** Whether the tree of `second` leaves continues that of `first` (section 2.1.4.2). */
export function verifyConsistency(
  first: number,
  second: number,
  firstRoot: Uint8Array,
  secondRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isSize(first) || !isSize(second) || first > second) return false;
  if (proof.some(({ length }) => length !== HASH_BYTES)) return false;
  // The RFC leaves both cases to the caller: nothing is to be proven, and nothing may be given.
  if (first === second) return proof.length === 0 && bytesEqual(firstRoot, secondRoot);
  if (first === 0) return proof.length === 0 && bytesEqual(firstRoot, EMPTY_ROOT);
  if (proof.length === 0) return false;
  const [seed, ...path] = isPowerOfTwo(first) ? [firstRoot, ...proof] : proof;
  let [fn, sn] = [first - 1, second - 1];
  while (isOdd(fn)) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [seed!, seed!];
  for (const step of path) {
    if (sn === 0) return false;
    if (isOdd(fn) || fn === sn) {
      fr = nodeHash(step, fr);
      sr = nodeHash(step, sr);
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = nodeHash(sr, step);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && bytesEqual(fr, firstRoot) && bytesEqual(sr, secondRoot);
}

/** The perfect subtrees that cover the leaves from `start` on, before `end`. `start` is a multiple of the largest. */
function cover(start: number, end: number): Node[] {
  const nodes: Node[] = [];
  for (let at = start; at < end; ) {
    const level = Math.floor(Math.log2(end - at));
    // The logarithm of a number just below a power of two may be rounded up to it.
    const fitting = 2 ** level > end - at ? level - 1 : level;
    nodes.push({ level: fitting, index: at / 2 ** fitting });
    at += 2 ** fitting;
  }
  return nodes;
}

/** The largest power of two below n, for n > 1. */
function splitOf(n: number): number {
  let split = 1;
  while (split * 2 < n) split *= 2;
  return split;
}

const isSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
const isOdd = (value: number): boolean => value % 2 === 1;
const half = (value: number): number => Math.floor(value / 2);
const isPowerOfTwo = (value: number): boolean => value > 0 && 2 ** Math.round(Math.log2(value)) === value;

function checkedSize(size: number): number {
  if (isSize(size)) return size;
  throw new DstackError('MERKLE_RANGE', `not the size of a tree: ${size}`);
}
