/**
 * By what relays know each other: an X25519 key of each, made on its first start and kept in its store.
 *
 * A relay shows its key in every reply to a poll, and proves that it has it: by a MAC, under the secret that the two keys share, over
 * what the poll said. Whoever polls it from then on says who it is itself, by a header with a MAC under the same secret: no
 * signature and no handshake, a few microseconds for each request. So a peer that
 * this host's operator chose is told from strangers by its key, from whatever address it calls, and a peer that listens anyway
 * is not sent announcements besides.
 *
 * What a key is *not*: a right. Anyone can make any number of them, so only those count which a configured URL has shown, and one
 * alone: who hands polls on to another relay must not pass for it. Nor does
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

/** Secrets with keys that are remembered. */
const SECRETS = 256;

interface Known {
  /** What the operator calls it: URLs that have shown the key. */
  peers: Set<string>;
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
  readonly #secrets = new Map<string, Buffer | undefined>();
  #last = 0;

  constructor(store: Store, now: () => number = Date.now) {
    const table = new Table(store, 'gossip/peer-key/', KeySchema);
    if (table.get('own') === undefined) table.put('own', newKey());
    const { key, d, x } = table.get('own')!;
    this.own = parseHex(key);
    this.#private = createPrivateKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', d, x } });
    this.#now = now;
  }

  /**
   * The peer at a configured URL has this key. A URL has one key, the newest; a key that several URLs have counts for none of them.
   * @returns another such URL
   */
  learn(peer: string, key: string): string | undefined {
    const before = this.#known.get(key);
    if (before?.peers.has(peer) !== true) {
      for (const [other, { peers }] of this.#known) {
        if (peers.delete(peer) && peers.size === 0) this.#known.delete(other);
      }
      const secret = key === this.own ? undefined : this.#secretWith(key);
      if (secret === undefined) return undefined;
      const known = before ?? {
        peers: new Set<string>(),
        secret,
        seen: new Set<number>(),
        highest: 0,
        floor: 0,
      };
      known.peers.add(peer);
      this.#known.set(key, known);
    }
    return [...this.#known.get(key)!.peers].find((other) => other !== peer);
  }

  /**
   * The value of PEER_HEADER for a request to the holder of `key`; undefined when nothing can be proven to it. To one whose key is
   * not known yet it says only who asks, so that it can prove its own.
   */
  header(key: string | undefined, method: string, path: string): string | undefined {
    const secret = key === undefined ? undefined : this.#secretWith(key);
    if (key !== undefined && secret === undefined) return undefined;
    this.#last = Math.max(this.#last + 1, this.#now());
    const mac = secret && macOf(secret, this.own, method, path, this.#last).toString('hex');
    return `${this.own} ${this.#last} ${mac ?? '-'}`;
  }

  /** For whoever made a request with this header: that this relay has the key that it shows. */
  proof(header: string | undefined): Hex | undefined {
    const [, key = '', at = ''] = HEADER.exec(header ?? '') ?? [];
    const secret = key === '' ? undefined : this.#secretWith(key);
    return secret && toHex(proofOf(secret, this.own, key, at));
  }

  /** Whether the answer to a request with this header is by the holder of `key`. */
  isProof(key: string, header: string | undefined, proof: string | undefined): boolean {
    const [, own = '', at = ''] = HEADER.exec(header ?? '') ?? [];
    const secret = this.#secretWith(key);
    if (secret === undefined || proof === undefined || own !== this.own) return false;
    return timingSafeEqual(Buffer.from(proof, 'hex'), proofOf(secret, key, own, at));
  }

  /** Which configured peer makes this request; undefined for anyone else, and for what was said before. */
  peerOf(header: string | undefined, method: string, path: string): string | undefined {
    const [, key, time, mac] = HEADER.exec(header ?? '') ?? [];
    const known = this.#known.get(key ?? '');
    if (known === undefined || key === undefined || mac === undefined || mac === '-') return undefined;
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
    const [peer] = known.peers;
    return known.peers.size === 1 ? peer : undefined;
  }

  /** Undefined for a key with which there is no secret: one of small order. */
  #secretWith(key: string): Buffer | undefined {
    const known = this.#secrets.has(key) ? this.#secrets.get(key) : this.#agree(key);
    this.#secrets.delete(key);
    this.#secrets.set(key, known);
    if (this.#secrets.size > SECRETS) this.#secrets.delete(this.#secrets.keys().next().value!);
    return known;
  }

  #agree(key: string): Buffer | undefined {
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

/** Key, time and MAC of who makes a request. */
const HEADER = /^([0-9a-f]{64}) (\d{1,16}) ([0-9a-f]{64}|-)$/;

/** @param from the key that is shown. @param at as the request says it */
const proofOf = (secret: Buffer, from: string, to: string, at: string): Buffer =>
  createHmac('sha256', secret).update(`dstack/gossip/2 proof ${from} ${to} ${at}`).digest();

/** The sender's key is in it: the secret is the same in both directions. */
const macOf = (secret: Buffer, from: string, method: string, path: string, at: number): Buffer =>
  createHmac('sha256', secret).update(`dstack/gossip/2 ${from} ${at} ${method} ${path}`).digest();
