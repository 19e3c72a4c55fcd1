/**
 * The key hierarchy: everything a network owns is derived from its 32-byte secret of one epoch.
 *
 * `HKDF-SHA256(secret, salt = "dstack/v1", info = list of purpose, epoch, …)` (RFC 5869); the list is length-prefixed
 * (encoding.ts). A *pinned* purpose keeps the epoch in which its use was born, because what it protects outlives a
 * rotation; a *per-epoch* purpose always follows the current one. Vectors: testdata/protocol/keys.json, app-keys.json, sealing.json,
 * app-secrets.json.
 */
import { hkdfSync } from 'node:crypto';
import { lengthPrefixed, sha256, toHex, uint64, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import type { Address } from './hex.ts';
import { addressOf } from './secp256k1.ts';

/** Every purpose that exists, and whether its keys are pinned to the epoch they were born in. */
export const keyPurposes = {
  'network-key': 'per-epoch',
  tls: 'per-epoch',
  seal: 'per-epoch',
  'acme-account': 'per-epoch',
  disk: 'pinned',
  signer: 'pinned',
  kv: 'pinned',
  app: 'pinned',
  'app-secrets': 'pinned',
  'app-identity': 'pinned',
  'app-ca': 'pinned',
} as const;

export type KeyPurpose = keyof typeof keyPurposes;

const SALT = utf8('dstack/v1');
const SECP256K1_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/**
 * A key of `length` bytes for one purpose. `path` says which one within the purpose (a disk's id; an app and its tag).
 * @throws KEY_SECRET when the secret is not 32 bytes
 */
export function deriveKey(
  secret: Uint8Array,
  epoch: number,
  purpose: KeyPurpose,
  path: readonly Uint8Array[] = [],
  length = 32,
): Uint8Array {
  if (secret.length !== 32) {
    throw new DstackError('KEY_SECRET', `a network secret has 32 bytes, this one has ${secret.length}`);
  }
  const info = lengthPrefixed([utf8(purpose), uint64(epoch), ...path]);
  return new Uint8Array(hkdfSync('sha256', secret, SALT, info, length));
}

/** The secp256k1 key that signs for the network; its address is the contract's `networkKey`. */
export function networkKey(secret: Uint8Array, epoch: number): { privateKey: Uint8Array; address: Address } {
  const privateKey = scalar(deriveKey(secret, epoch, 'network-key', [], 48), SECP256K1_ORDER);
  return { privateKey, address: addressOf(privateKey) };
}

/** The P-256 private scalar of the network's TLS key, 32 bytes. */
export function tlsKey(secret: Uint8Array, epoch: number): Uint8Array {
  return scalar(deriveKey(secret, epoch, 'tls', [], 48), P256_ORDER);
}

/** The P-256 private scalar of the account that the network has with a certificate authority, 32 bytes. */
export function acmeAccountKey(secret: Uint8Array, epoch: number): Uint8Array {
  return scalar(deriveKey(secret, epoch, 'acme-account', [], 48), P256_ORDER);
}

/** The key of one data disk, bound to the disk's random id. */
export function diskKey(secret: Uint8Array, epoch: number, diskId: Uint8Array): Uint8Array {
  return deriveKey(secret, epoch, 'disk', [diskId]);
}

/** The 64 bytes that the encapsulation of one answer is made from, and nothing else: see sealing.ts. */
export function sealingRandomness(
  secret: Uint8Array,
  epoch: number,
  requestHash: Uint8Array,
  kemPublicKey: Uint8Array,
): Uint8Array {
  return deriveKey(secret, epoch, 'seal', [requestHash, sha256(kemPublicKey)], 64);
}

/**
 * The Ed25519 seed of one log, which signs its heads. Every node has a store and a log of its own, so its key is bound to the random id of
 * the disk that it lies on: with one key for all, the logs of two nodes would look like a fork.
 */
export function ledgerKey(secret: Uint8Array, epoch: number, log: Uint8Array): Uint8Array {
  return deriveKey(secret, epoch, 'kv', [utf8('ledger-key'), log]);
}

/** The key of the salts of the ledger's leaves (lib/ledger/salt.ts): 32 bytes. */
export function ledgerSaltKey(secret: Uint8Array, epoch: number, log: Uint8Array): Uint8Array {
  return deriveKey(secret, epoch, 'kv', [utf8('ledger-salt'), log]);
}

/** Both keys of one log. */
export function ledgerKeys(
  secret: Uint8Array,
  epoch: number,
  log: Uint8Array,
): { seed: Uint8Array; saltKey: Uint8Array } {
  return { seed: ledgerKey(secret, epoch, log), saltKey: ledgerSaltKey(secret, epoch, log) };
}

/** The Ed25519 seed (RFC 8032, section 5.1.5) of the key with which a validator of one chain signs. */
export function signerSeed(secret: Uint8Array, epoch: number, chain: string): Uint8Array {
  return deriveKey(secret, epoch, 'signer', [utf8('consensus'), utf8(chain)]);
}

/** The Ed25519 seed of the key that the signer shows to nodes of all chains. */
export function signerIdentity(secret: Uint8Array, epoch: number): Uint8Array {
  return deriveKey(secret, epoch, 'signer', [utf8('identity')]);
}

/** What the signer needs for one chain. */
export function signerKeys(
  secret: Uint8Array,
  epoch: number,
  chain: string,
): { seed: Uint8Array; identity: Uint8Array } {
  return { seed: signerSeed(secret, epoch, chain), identity: signerIdentity(secret, epoch) };
}

/** What an app's key is for: 32 bytes for anything, or the private key of a signature scheme. */
export const APP_KEY_TYPES = ['raw', 'secp256k1', 'ed25519', 'p256'] as const;
export type AppKeyType = (typeof APP_KEY_TYPES)[number];

/**
 * A key that only `app` can reach; `tag` is the app's own name for it. The same tag with another type is another key: no bytes are ever
 * the key of two schemes. Scalars are big-endian; an Ed25519 key is the seed (RFC 8032, section 5.1.5).
 */
export function appKey(
  secret: Uint8Array,
  epoch: number,
  app: string,
  tag: string,
  type: AppKeyType = 'raw',
): Uint8Array {
  const path = [utf8(app), utf8(tag)];
  if (type === 'raw') return deriveKey(secret, epoch, 'app', path);
  const typed = [...path, utf8(type)];
  if (type === 'ed25519') return deriveKey(secret, epoch, 'app', typed);
  return scalar(deriveKey(secret, epoch, 'app', typed, 48), type === 'p256' ? P256_ORDER : SECP256K1_ORDER);
}

/**
 * The secp256k1 key that vouches for an app's keys (app-keys.ts). The app itself never has it: it signs nothing but that a key
 * is the app's.
 */
export function appIdentityKey(secret: Uint8Array, epoch: number, app: string): Uint8Array {
  return scalar(deriveKey(secret, epoch, 'app-identity', [utf8(app)], 48), SECP256K1_ORDER);
}

/** The P-256 key that certifies an app's TLS keys. The app itself never has it. */
export function appAuthorityKey(secret: Uint8Array, epoch: number, app: string): Uint8Array {
  return scalar(deriveKey(secret, epoch, 'app-ca', [utf8(app)], 48), P256_ORDER);
}

/** The X-Wing decapsulation key (32 bytes) to which the owner seals an app's secrets: app-secrets.ts. */
export function appSecretsKey(secret: Uint8Array, epoch: number, app: string): Uint8Array {
  return deriveKey(secret, epoch, 'app-secrets', [utf8(app)]);
}

/**
 * 48 bytes reduced modulo n: the bias is below 2^-128 (FIPS 186-5, A.2.1, with 128 extra bits). Zero cannot occur in
 * practice and is refused rather than patched.
 */
function scalar(wide: Uint8Array, order: bigint): Uint8Array {
  const reduced = BigInt(`0x${toHex(wide)}`) % order;
  if (reduced === 0n) throw new DstackError('KEY_ZERO_SCALAR', 'the derived scalar is zero');
  return new Uint8Array(Buffer.from(reduced.toString(16).padStart(64, '0'), 'hex'));
}
