/**
 * By what relays know each other: an X25519 key of each, made on its first start and kept in its store.
 *
 * A relay shows its key in every reply to a poll. Whoever polls it from then on says who it is itself, by a header with a MAC
 * under the secret that the two keys share: no signature and no handshake, a few microseconds for each request. So a peer that
 * this host's operator chose is told from strangers by its key, from whatever address it calls, and a peer that listens anyway
 * is not sent announcements besides.
 *
 * What a key is *not*: a right. Anyone can make any number of them, so only those count which a configured URL has shown. Nor does
 * it protect what is said: messages vouch for themselves, and who sits on the wire can drop them all the same.
 */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import { type Static, Type } from 'typebox';
import { type Store, Table } from '../../lib/framework/store.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { HexOf, Strict } from '../../lib/protocol/schema.ts';

export const PEER_HEADER = 'dstack-gossip';

const Part = Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' });
const KeySchema = Strict({ key: HexOf(32), d: Part, x: Part });

/** Requests of one peer that are recognised if they come twice, and how far apart they may overtake each other, milliseconds. */
const SEEN = 4096;
const OVERTAKEN_MS = 30_000;

interface Known {
  /** What the operator calls it. */
  peer: string;
  secret: Buffer;
  seen: Set<number>;
  highest: number;
  /** Times that are not newer are taken for repeated. */
  floor: number;
}

export class PeerKeys {
  /** This relay's own. */
  readonly own: Hex;
  readonly #private: KeyObject;
  readonly #known = new Map<string, Known>();
  readonly #now: () => number;
  #last = 0;

  constructor(store: Store, now: () => number = Date.now) {
    const table = new Table(store, 'gossip/peer-key/', KeySchema);
    if (table.get('own') === undefined) table.put('own', newKey());
    const { key, d, x } = table.get('own')!;
    this.own = parseHex(key);
    this.#private = createPrivateKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', d, x } });
    this.#now = now;
  }

  /** The peer at a configured URL has shown this key. A URL has one key, the newest; a key may have several URLs: the first counts. */
  learn(peer: string, key: string): void {
    if (this.#known.get(key)?.peer === peer) return;
    for (const [other, known] of this.#known) if (known.peer === peer) this.#known.delete(other);
    if (this.#known.has(key) || key === this.own) return;
    const secret = this.#secretWith(key);
    if (secret !== undefined) this.#known.set(key, { peer, secret, seen: new Set(), highest: 0, floor: 0 });
  }

  /** The value of PEER_HEADER for a request to the holder of `key`; undefined when nothing can be proven to it. */
  header(key: string, method: string, path: string): string | undefined {
    const secret = this.#known.get(key)?.secret;
    if (secret === undefined) return undefined;
    this.#last = Math.max(this.#last + 1, this.#now());
    return `${this.own} ${this.#last} ${macOf(secret, this.own, method, path, this.#last).toString('hex')}`;
  }

  /** Which configured peer makes this request; undefined for anyone else, and for what was said before. */
  peerOf(header: string | undefined, method: string, path: string): string | undefined {
    const [, key, time, mac] = /^([0-9a-f]{64}) (\d{1,16}) ([0-9a-f]{64})$/.exec(header ?? '') ?? [];
    const known = this.#known.get(key ?? '');
    if (known === undefined || key === undefined || mac === undefined) return undefined;
    const at = Number(time);
    if (!timingSafeEqual(Buffer.from(mac, 'hex'), macOf(known.secret, key, method, path, at)))
      return undefined;
    if (at <= Math.max(known.floor, known.highest - OVERTAKEN_MS) || known.seen.has(at)) return undefined;
    known.seen.add(at);
    known.highest = Math.max(known.highest, at);
    if (known.seen.size > SEEN) {
      const [oldest] = known.seen;
      known.floor = Math.max(known.floor, oldest!);
      known.seen.delete(oldest!);
    }
    return known.peer;
  }

  /** Undefined for a key with which there is no secret: one of small order. */
  #secretWith(key: string): Buffer | undefined {
    try {
      const x = Buffer.from(key, 'hex').toString('base64url');
      const publicKey = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', x } });
      return diffieHellman({ privateKey: this.#private, publicKey });
    } catch {
      return undefined;
    }
  }
}

function newKey(): Static<typeof KeySchema> {
  const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  return { key: toHex(Buffer.from(x, 'base64url')), d, x };
}

/** The sender's key is in it: the secret is the same in both directions. */
const macOf = (secret: Buffer, from: string, method: string, path: string, at: number): Buffer =>
  createHmac('sha256', secret).update(`dstack/gossip/2 ${from} ${at} ${method} ${path}`).digest();
