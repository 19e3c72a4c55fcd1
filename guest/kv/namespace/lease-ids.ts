/**
 * Lease ids are 64-bit numbers that all of etcd shares. A namespace has its own: what a client calls a lease is what etcd calls it,
 * permuted by a cipher whose key is the namespace's. So two namespaces may choose the same id, no client can name another's lease, and
 * an id that stands in history, or in a deletion's event, is read back without a table.
 *
 * The cipher is a Feistel network of eight rounds over AES (Luby and Rackoff), on blocks of 64 bits.
 */
import { type Cipheriv, createCipheriv, createHmac } from 'node:crypto';

/** No lease. */
const NONE = 0n;
/** An id that is never granted: what a client's id becomes when it has no such lease. */
export const NEVER = -(2n ** 63n);

const ROUNDS = 8;
const REMEMBERED = 65_536;

export class LeaseIds {
  readonly #cipher: Cipheriv;
  readonly #shown = new Map<bigint, bigint>();
  readonly #block = Buffer.alloc(16);

  /** @param key 32 bytes of the store's own @param namespace the prefix */
  constructor(key: Uint8Array, namespace: Uint8Array) {
    const own = createHmac('sha256', key).update('lease ids of ').update(namespace).digest();
    this.#cipher = createCipheriv('aes-256-ecb', own, null).setAutoPadding(false);
  }

  /** Etcd's id of a client's lease. Zero, for none, stays zero. */
  upstream(client: bigint): bigint {
    if (isFixed(client)) return client;
    let id = client;
    // What must stay itself is walked over: the permutation of all others has no gaps.
    do id = this.#permute(id, 0, 1);
    while (isFixed(id));
    return id;
  }

  /** A client's id of etcd's lease. */
  client(upstream: bigint): bigint {
    if (isFixed(upstream)) return upstream;
    const known = this.#shown.get(upstream);
    if (known !== undefined) return known;
    let id = upstream;
    do id = this.#permute(id, ROUNDS - 1, -1);
    while (isFixed(id));
    if (this.#shown.size >= REMEMBERED) this.#shown.clear();
    this.#shown.set(upstream, id);
    return id;
  }

  #permute(id: bigint, first: number, step: 1 | -1): bigint {
    const unsigned = BigInt.asUintN(64, id);
    let left = Number(unsigned >> 32n);
    let right = Number(unsigned & 0xffff_ffffn);
    // Backwards it is the same network with its halves exchanged.
    if (step === -1) [left, right] = [right, left];
    for (let round = first; round >= 0 && round < ROUNDS; round += step)
      [left, right] = [right, (left ^ this.#mix(round, right)) >>> 0];
    if (step === -1) [left, right] = [right, left];
    return BigInt.asIntN(64, (BigInt(left) << 32n) | BigInt(right));
  }

  #mix(round: number, half: number): number {
    this.#block.writeUInt32BE(round, 0);
    this.#block.writeUInt32BE(half, 4);
    return this.#cipher.update(this.#block).readUInt32BE(0);
  }
}

function isFixed(id: bigint): boolean {
  return id === NONE || id === NEVER;
}
