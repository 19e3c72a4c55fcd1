/**
 * Proofs of a contract's storage at a block, made by whoever asks an endpoint for them (EIP-1186) and checked against the block's hash alone:
 * Merkle Patricia tries and RLP as in the Yellow Paper, appendices B and D.
 */
import { decodeRlp, type RlpStructuredData } from 'ethers';
import { type Static, Type } from 'typebox';
import type { ChainClient } from '../../chain/chain-client.ts';
import { bytesEqual, fromHex, to0x } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { type Address, type Hex, parseHex, sameHex, ZERO_WORD } from '../../protocol/hex.ts';
import { HexUpTo, Strict, Word0x } from '../../protocol/schema.ts';
import { keccak256 } from '../../protocol/secp256k1.ts';

const Nodes = Type.Array(HexUpTo(1024), { maxItems: 64 });

/** That a contract's storage had these words at a block. An enclave that knows the block's hash trusts nobody for them: `verifyExistence`. */
export const ExistenceProofSchema = Strict({
  /** The block's header, RLP. */
  header: HexUpTo(4 * 1024),
  account: Nodes,
  storage: Type.Array(Strict({ slot: Word0x, proof: Nodes }), { maxItems: 64 }),
});
export type ExistenceProof = Static<typeof ExistenceProofSchema>;

/** What is proven: the block's number and the words by their slots, zeros where there is nothing. */
export interface Existence {
  readonly block: number;
  readonly words: ReadonlyMap<Hex, Hex>;
}

/** Places of the state root and the number in a header. */
const STATE_ROOT = 3;
const NUMBER = 8;

/**
 * @param chain which says what the hash of the proof's block is
 * @throws PROOF_INVALID, and what `chain.block` throws
 */
export async function verifyExistence(
  proof: ExistenceProof,
  contract: Address,
  chain: Pick<ChainClient, 'block'>,
): Promise<Existence> {
  const header = decoded(fromHex(proof.header));
  const number = Number(BigInt(`0x${Buffer.from(textAt(header, NUMBER)).toString('hex') || '0'}`));
  if (!Number.isSafeInteger(number)) throw invalid('the header has no number of a block');
  const { hash } = await chain.block(number);
  if (!sameHex(hash, to0x(keccak256(fromHex(proof.header)))))
    throw invalid(`the header is not that of block ${number}`);
  const account = valueAt(textAt(header, STATE_ROOT), keccak256(fromHex(contract.slice(2))), proof.account);
  const words = new Map<Hex, Hex>();
  const root = account === undefined ? undefined : textAt(decoded(account), 2);
  for (const { slot, proof: nodes } of proof.storage) {
    const value = root && valueAt(root, keccak256(fromHex(slot.slice(2))), nodes);
    words.set(slot, value === undefined ? ZERO_WORD : wordOf(value));
  }
  return { block: number, words };
}

/** The value under a key of 32 bytes, below this root; undefined when it is proven that there is none. */
function valueAt(root: Uint8Array, key: Uint8Array, proof: readonly Hex[]): Uint8Array | undefined {
  const path = nibblesOf(key);
  const nodes = proof.values();
  let at = 0;
  let node = nodeOf(root, nodes);
  for (;;) {
    if (node === undefined) return undefined;
    if (node.length === 17) {
      const nibble = path[at];
      if (nibble === undefined) return contentOf(node[16]);
      at += 1;
      node = nodeOf(node[nibble], nodes);
    } else if (node.length === 2) {
      const { nibbles, isLeaf } = compactPath(textAt(node, 0));
      const fits = nibbles.every((nibble, index) => path[at + index] === nibble);
      if (!fits) return undefined;
      at += nibbles.length;
      if (isLeaf) return at === path.length ? contentOf(node[1]) : undefined;
      node = nodeOf(node[1], nodes);
    } else throw invalid('a node of the proof is neither a branch nor a path');
  }
}

/** What a reference leads to: a node within its parent, or the next one of the proof, whose hash it is. */
function nodeOf(
  reference: RlpStructuredData | Uint8Array | undefined,
  nodes: ArrayIterator<Hex>,
): readonly RlpStructuredData[] | undefined {
  if (Array.isArray(reference)) return reference;
  const hash = reference instanceof Uint8Array ? reference : fromHex(textOf(reference).slice(2));
  if (hash.length === 0 || bytesEqual(hash, EMPTY_ROOT)) return undefined;
  const { value } = nodes.next();
  if (value === undefined) throw invalid('the proof ends too early');
  const bytes = fromHex(value);
  if (!bytesEqual(keccak256(bytes), hash))
    throw invalid('a node of the proof is not the one that is referred to');
  return decoded(bytes);
}

/** Of a trie with nothing in it. */
const EMPTY_ROOT = keccak256(Uint8Array.of(0x80));

function compactPath(bytes: Uint8Array): { nibbles: number[]; isLeaf: boolean } {
  const nibbles = nibblesOf(bytes);
  const [flag = 16] = nibbles;
  if (flag > 3) throw invalid('a path of the proof has no such beginning');
  return { nibbles: nibbles.slice(flag % 2 === 1 ? 1 : 2), isLeaf: flag >= 2 };
}

const nibblesOf = (bytes: Uint8Array): number[] => [...bytes].flatMap((byte) => [byte >> 4, byte & 15]);

function contentOf(item: RlpStructuredData | undefined): Uint8Array | undefined {
  const bytes = fromHex(textOf(item).slice(2));
  return bytes.length === 0 ? undefined : bytes;
}

/** A word of storage, which is RLP without its leading zeros. */
function wordOf(value: Uint8Array): Hex {
  const digits = textOf(rlp(value)).slice(2);
  if (digits.length > 64) throw invalid('a word of the proof is too long');
  return parseHex(`0x${digits.padStart(64, '0')}`);
}

function decoded(bytes: Uint8Array): readonly RlpStructuredData[] {
  const item = rlp(bytes);
  if (!Array.isArray(item)) throw invalid('a part of the proof is no list');
  return item;
}

function rlp(bytes: Uint8Array): RlpStructuredData {
  try {
    return decodeRlp(bytes);
  } catch (cause) {
    throw invalid('a part of the proof is no RLP', cause);
  }
}

const textAt = (list: readonly RlpStructuredData[], at: number): Uint8Array =>
  fromHex(textOf(list[at]).slice(2));

function textOf(item: RlpStructuredData | undefined): string {
  if (typeof item !== 'string') throw invalid('a part of the proof is a list where bytes belong');
  return item;
}

const invalid = (why: string, cause?: unknown): DstackError =>
  new DstackError('PROOF_INVALID', `the proof does not hold: ${why}`, { cause });
