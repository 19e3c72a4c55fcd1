/**
 * Merkle Patricia tries as Ethereum hashes its state (yellow paper, appendix D): the root of a whole storage, and an
 * account out of a proof. Keys are hashed first, as both of a state's tries have it.
 */
import { decodeRlp, encodeRlp, getBytes, keccak256, type RlpStructuredData } from 'ethers';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';

/** The root of a trie that holds nothing. */
export const EMPTY_ROOT: string = keccak256('0x80');

interface Leaf {
  /** The hashed key, a hex digit each. */
  readonly path: string;
  /** RLP of the value. */
  readonly value: string;
}

/**
 * The root of a contract's storage.
 * @param slots by slot number; zeros are not part of a storage and are left out
 * @returns 0x-hex, as `storageHash` of `eth_getProof`
 */
export function storageRoot(slots: ReadonlyMap<bigint, bigint>): string {
  const leaves = [...slots]
    .filter(([, value]) => value !== 0n)
    .map(([slot, value]) => ({
      path: keccak256(word(slot)).slice(2),
      value: encodeRlp(evenHex(value)),
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  return leaves.length === 0 ? EMPTY_ROOT : keccak256(encodeRlp(nodeOf(leaves, 0)));
}

/** @param leaves in order, at least one, alike up to `depth` */
function nodeOf(leaves: readonly Leaf[], depth: number): RlpStructuredData {
  const [first, last] = [leaves[0]!, leaves.at(-1)!];
  if (first === last) return [compact(first.path.slice(depth), true), first.value];
  let shared = depth;
  while (first.path[shared] === last.path[shared]) shared += 1;
  if (shared > depth) return [compact(first.path.slice(depth, shared), false), reference(leaves, shared)];
  const branches = Array.from({ length: 16 }, (_, digit) => {
    const below = leaves.filter(({ path }) => path[depth] === digit.toString(16));
    return below.length === 0 ? '0x' : reference(below, depth + 1);
  });
  return [...branches, '0x'];
}

/** A node as another one holds it: itself if it is short, its hash if not. */
function reference(leaves: readonly Leaf[], depth: number): RlpStructuredData {
  const node = nodeOf(leaves, depth);
  const encoded = encodeRlp(node);
  return encoded.length < 2 + 64 ? node : keccak256(encoded);
}

/** Hex digits as bytes, with their parity and the kind of their node in front. */
function compact(digits: string, isLeaf: boolean): string {
  const flag = isLeaf ? 2 : 0;
  return digits.length % 2 === 0 ? `0x${flag}0${digits}` : `0x${flag + 1}${digits}`;
}

/**
 * The storage root of an account, as a state's root proves it.
 * @param proof nodes from the root down, as `accountProof` of `eth_getProof`
 * @throws STATE_PROOF for one that does not lead from the root to the account
 */
export function provenStorageRoot(stateRoot: string, address: Address, proof: readonly string[]): string {
  return accountOf(leafOf(stateRoot, addressKey(address), proof));
}

/**
 * Whether a trie has a leaf of zero for a slot. Ethereum's never have one: a chain whose tries do keeps what it was only asked
 * for, as some that are made for development do, and the root of its storage is not that of what is stored.
 * @param proof as one of `storageProof` of `eth_getProof`
 */
export function hasZeroLeaf(root: string, slot: string, proof: readonly string[]): boolean {
  try {
    return /^0x(80|00)?$/.test(leafOf(root, slot, proof));
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    return false;
  }
}

/** What a trie has under a key, RLP. @throws STATE_PROOF for a proof that does not lead there */
function leafOf(root: string, key: string, proof: readonly string[]): string {
  const path = keccak256(key).slice(2);
  let [expected, depth] = [root, 0];
  for (const encoded of proof) {
    if (keccak256(encoded) !== expected) throw broken('a node has another hash than its parent says');
    const node = listOf(encoded);
    if (node.length === 17) {
      expected = textOf(node[Number.parseInt(path[depth] ?? '0', 16)]);
      depth += 1;
      continue;
    }
    const [prefix, next] = [textOf(node[0]).slice(2), textOf(node[1])];
    const flag = Number.parseInt(prefix[0] ?? '0', 16);
    const digits = prefix.slice((flag & 1) === 1 ? 1 : 2);
    if (!path.startsWith(digits, depth)) throw broken('it is of something else');
    depth += digits.length;
    if (flag >= 2) {
      if (depth !== path.length) throw broken('it ends early');
      return next;
    }
    expected = next;
  }
  throw broken('it does not lead to an end');
}

/** An account is the list of its nonce, balance, storage root and code hash. */
function accountOf(encoded: string): string {
  const account = listOf(encoded);
  const root = textOf(account[2]);
  if (account.length !== 4 || getBytes(root).length !== 32) throw broken('it does not end at an account');
  return root;
}

function listOf(encoded: string): readonly RlpStructuredData[] {
  let node: RlpStructuredData;
  try {
    node = decodeRlp(encoded);
  } catch (cause) {
    throw broken('a node is no RLP', cause);
  }
  if (!Array.isArray(node)) throw broken('a node is no list');
  return node;
}

function textOf(item: RlpStructuredData | undefined): string {
  if (typeof item !== 'string') throw broken('a node has another form');
  return item;
}

function broken(what: string, cause?: unknown): DstackError {
  return new DstackError('STATE_PROOF', `the proof does not hold: ${what}`, { cause });
}

/** 32 bytes as 0x-hex. */
export const word = (value: bigint): string => `0x${value.toString(16).padStart(64, '0')}`;

function evenHex(value: bigint): string {
  const digits = value.toString(16);
  return `0x${digits.length % 2 === 0 ? digits : `0${digits}`}`;
}
