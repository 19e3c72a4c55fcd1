/**
 * From a name to the keys that only those who know it have. A name is stretched, so that to guess it costs memory and time for each
 * guess; a short or usual name is guessed all the same. A private network has a secret, and under it names can't be guessed at all. Both
 * are bound to the network: tables made for one are of no use for another.
 */
import { argon2Sync, hkdfSync } from 'node:crypto';
import { lengthPrefixed, sha256, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import type { Selector } from './format.ts';
import { ordinalTag } from './ordinals.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';

/** As long as the path of a file may be. */
export const MAX_NAME_BYTES = 4096;

/** Argon2id (RFC 9106): 16 MiB, 2 passes, 1 lane. Changing one changes every key. */
const STRETCH = { memory: 16 * 1024, passes: 2, parallelism: 1, tagLength: 32 } as const;

const SALT = utf8('dstack/v1');

/** Where names mean something. */
export interface NameSpace {
  /** The identity of the network's genesis record. */
  readonly network: Uint8Array;
  /** 32 bytes that all of a private network know; names are keyed by it instead of stretched. */
  readonly secret?: Uint8Array;
}

/** What a name gives to who knows it. All but `claimKey` must stay with them. */
export interface NameKeys {
  /** The public part of the claim; what records are found by. */
  readonly claimKey: Uint8Array;
  /** The Ed25519 seed that signs claims. */
  readonly claimSeed: Uint8Array;
  /** For ordinals.ts. */
  readonly ordinalKey: Uint8Array;
  /** For mask.ts. */
  readonly maskKey: Uint8Array;
}

/**
 * Takes tens of milliseconds and 16 MiB without a secret: keep the result, and do it in a worker where others wait.
 * @param name UTF-8 text (not normalised: other bytes are another name) or any bytes
 * @throws RECORD_NAME, RECORD_NETWORK
 */
export function nameKeys(name: Uint8Array, space: NameSpace): NameKeys {
  if (name.length === 0 || name.length > MAX_NAME_BYTES) {
    throw new DstackError('RECORD_NAME', `a name has 1 to ${MAX_NAME_BYTES} bytes, not ${name.length}`);
  }
  const root = rootOf(name, space);
  const derive = (purpose: string): Uint8Array =>
    new Uint8Array(hkdfSync('sha256', root, SALT, lengthPrefixed([utf8('record-name'), utf8(purpose)]), 32));
  const claimSeed = derive('claim');
  return {
    claimKey: publicKeyOfSeed(claimSeed),
    claimSeed,
    ordinalKey: derive('ordinal'),
    maskKey: derive('mask'),
  };
}

/** What a record with this name and ordinal has. */
export function selectorOf(keys: NameKeys, ordinal: bigint): Selector {
  return { claimKey: keys.claimKey, ordinalTag: ordinalTag(keys.ordinalKey, ordinal) };
}

function rootOf(name: Uint8Array, { network, secret }: NameSpace): Uint8Array {
  if (network.length !== 32) {
    throw new DstackError('RECORD_NETWORK', `a network is named by 32 bytes, not ${network.length}`);
  }
  if (secret === undefined) {
    const nonce = sha256(lengthPrefixed([utf8('dstack/v1/record-name'), network]));
    return new Uint8Array(argon2Sync('argon2id', { message: name, nonce, ...STRETCH }));
  }
  if (secret.length !== 32) {
    throw new DstackError('RECORD_NETWORK', `a network's secret has 32 bytes, not ${secret.length}`);
  }
  // By its hash: Node's HKDF takes up to 1024 bytes of info.
  const info = lengthPrefixed([utf8('record-name/keyed'), network, sha256(name)]);
  return new Uint8Array(hkdfSync('sha256', secret, SALT, info, 32));
}
