/**
 * A second reader of the ledger's formats, written from RFC 9162 (sections 2.1.1 to 2.1.4) and C2SP's pages, on node:crypto alone: nothing of lib/ledger is in it,
 * and it does everything in the slow and obvious way.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';

const sha256 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

export const leafHash = (entry: Uint8Array): Buffer => sha256(LEAF, entry);

/** MTH(D[n]) over leaf hashes: k is the largest power of two smaller than n. */
export function treeHash(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  const k = split(leaves.length);
  return sha256(NODE, treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

/** PATH(m, D[n]). */
export function path(m: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length <= 1) return [];
  const k = split(leaves.length);
  return m < k
    ? [...path(m, leaves.slice(0, k)), treeHash(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), treeHash(leaves.slice(0, k))];
}

/** The root that a path leads to: the same recursion, from the leaf. */
export function rootByPath(m: number, n: number, leaf: Buffer, proof: readonly Buffer[]): Buffer {
  if (n === 1) {
    if (proof.length > 0) throw new Error('the proof is too long');
    return leaf;
  }
  const last = proof.at(-1);
  if (last === undefined) throw new Error('the proof is too short');
  const k = split(n);
  return m < k
    ? sha256(NODE, rootByPath(m, k, leaf, proof.slice(0, -1)), last)
    : sha256(NODE, last, rootByPath(m - k, n - k, leaf, proof.slice(0, -1)));
}

export interface SignedHead {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

/** A signed head, if the verifier key signed it. */
export function openHead(note: string, verifierKey: string): SignedHead {
  const [, name, id, key] = /^([^+]+)\+([0-9a-f]{8})\+(.*)$/.exec(verifierKey)!;
  const encoded = Buffer.from(key!, 'base64');
  const hash = sha256(Buffer.from(`${name}\n`), encoded);
  if (encoded[0] !== 1 || hash.subarray(0, 4).toString('hex') !== id) throw new Error('not a verifier key');
  const [text, lines] = [
    note.slice(0, note.lastIndexOf('\n\n') + 1),
    note.slice(note.lastIndexOf('\n\n') + 2),
  ];
  const line = lines.split('\n').find((candidate) => candidate.startsWith(`— ${name} `));
  const signature = Buffer.from(line!.split(' ')[2]!, 'base64');
  if (signature.subarray(0, 4).toString('hex') !== id) throw new Error('signed by another key');
  const publicKey = createPublicKey({
    key: Buffer.concat([SPKI, encoded.subarray(1)]),
    format: 'der',
    type: 'spki',
  });
  if (!verify(null, Buffer.from(text), publicKey, signature.subarray(4)))
    throw new Error('a false signature');
  const [origin, size, root] = text.split('\n') as [string, string, string];
  return { origin, size: Number(size), root: Buffer.from(root, 'base64') };
}

/** All entries of a log of this size, read as the layout says: bundles of 256, each entry behind 2 bytes of length. */
export async function entriesOf(size: number, get: (path: string) => Promise<Buffer>): Promise<Buffer[]> {
  const entries: Buffer[] = [];
  for (let bundle = 0; bundle * 256 < size; bundle += 1) {
    const width = Math.min(256, size - bundle * 256);
    const bytes = await get(`tile/entries/${number(bundle)}${width < 256 ? `.p/${width}` : ''}`);
    for (let at = 0; at < bytes.length; at += 2 + bytes.readUInt16BE(at))
      entries.push(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at)));
  }
  return entries;
}

/** Fails unless each tile is the hashes that the leaves make. */
export async function requireTiles(
  leaves: readonly Buffer[],
  get: (path: string) => Promise<Buffer>,
): Promise<void> {
  for (let level = 0; 256 ** level <= leaves.length; level += 1) {
    const span = 256 ** level;
    const hashes = Array.from({ length: Math.floor(leaves.length / span) }, (_, at) =>
      treeHash(leaves.slice(at * span, (at + 1) * span)),
    );
    for (let tile = 0; tile * 256 < hashes.length; tile += 1) {
      const part = hashes.slice(tile * 256, (tile + 1) * 256);
      const name = `tile/${level}/${number(tile)}${part.length < 256 ? `.p/${part.length}` : ''}`;
      if (!Buffer.concat(part).equals(await get(name))) throw new Error(`${name} is another`);
    }
  }
}

function split(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

function number(index: number): string {
  const last = String(index % 1000).padStart(3, '0');
  const before = Math.floor(index / 1000);
  return before === 0 ? last : `x${number(before).replace(/(\d{3})$/, '$1')}/${last}`;
}
