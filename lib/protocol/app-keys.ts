/**
 * What is done with an app's keys: how they sign, and the chain of signatures that leads from a key of an app to the network key,
 * whose address the contract has. The chain's forms are those of dstack's ecosystem, so that its verifiers take it:
 *
 *     purpose link   by the app's identity key, over keccak256(purpose ‖ ":" ‖ hex of the key's public key)
 *     network link   by the network key, over keccak256("dstack-kms-issued:" ‖ app id ‖ the identity key's public key)
 *
 * The app id, 20 bytes, names chain, contract and app, so a link of one network says nothing in another. No EIP-712 digest of the network
 * can be either of them: what is hashed there begins with 0x19 0x01 and has 66 bytes, here it begins with other letters
 * or with what the app chose, has a colon 64 or 66 hex digits before its end, and is signed by a key that signs nothing else.
 *
 * Vectors: testdata/protocol/app-keys.json.
 */
import { createPrivateKey, createPublicKey, sign as signEd25519, verify as verifyEd25519 } from 'node:crypto';
import { fromHex, lengthPrefixed, sha256, toHex, uint64, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import type { Address } from './hex.ts';
import { appId } from './manifest.ts';
import { addressOfKey, keccak256, publicKeyOf, recoverPublicKey, sign, verifyCompact } from './secp256k1.ts';
import type { Domain } from './typed-data.ts';

/** The schemes that a node signs by for an app. `secp256k1` signs the SHA-256 of the data, `…_prehashed` 32 bytes as they are. */
export const SIGNING_ALGORITHMS = ['secp256k1', 'secp256k1_prehashed', 'ed25519'] as const;
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number];

/** The type of the key that an algorithm signs with. */
export const keyTypeOf = (algorithm: SigningAlgorithm): 'secp256k1' | 'ed25519' =>
  algorithm === 'ed25519' ? 'ed25519' : 'secp256k1';

/**
 * RFC 8410: what is before an Ed25519 seed in PKCS #8, and before a public key in SubjectPublicKeyInfo. As numbers: in hex the first would look
 * like a key to whoever searches an image for keys.
 */
const ED25519_PKCS8 = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const ED25519_SPKI = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

const ed25519Key = (seed: Uint8Array) =>
  createPrivateKey({ key: Buffer.from([...ED25519_PKCS8, ...seed]), format: 'der', type: 'pkcs8' });

/** The public key that goes with an app's key: secp256k1 compressed, 33 bytes; Ed25519 32 bytes. */
export function publicKeyOfApp(type: 'secp256k1' | 'ed25519', key: Uint8Array): Uint8Array {
  if (type === 'secp256k1') return publicKeyOf(key);
  const der = createPublicKey(ed25519Key(key)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(der.subarray(ED25519_SPKI.length));
}

/** 64 bytes: r ‖ s with a low s and deterministic (RFC 6979), or Ed25519's (RFC 8032). @throws SIGN_DIGEST */
export function signWith(algorithm: SigningAlgorithm, key: Uint8Array, data: Uint8Array): Uint8Array {
  if (algorithm === 'ed25519') return new Uint8Array(signEd25519(null, data, ed25519Key(key)));
  const { r, s } = sign(digestFor(algorithm, data), key);
  return Uint8Array.from([...r, ...s]);
}

/** Whether it is such a signature. Anything malformed is not. */
export function verifySignature(
  algorithm: SigningAlgorithm,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: Uint8Array,
): boolean {
  if (algorithm !== 'ed25519') {
    const isDigest = algorithm === 'secp256k1' || data.length === 32;
    return isDigest && verifyCompact(digestFor(algorithm, data), signature, publicKey);
  }
  if (signature.length !== 64 || publicKey.length !== 32) return false;
  const key = { key: Buffer.from([...ED25519_SPKI, ...publicKey]), format: 'der', type: 'spki' } as const;
  try {
    return verifyEd25519(null, data, createPublicKey(key), signature);
  } catch {
    return false;
  }
}

function digestFor(algorithm: 'secp256k1' | 'secp256k1_prehashed', data: Uint8Array): Uint8Array {
  if (algorithm === 'secp256k1') return sha256(data);
  if (data.length === 32) return data;
  throw new DstackError('SIGN_DIGEST', `secp256k1_prehashed signs a digest of 32 bytes, not ${data.length}`);
}

/** By what the ecosystem knows an app, 20 bytes: it names chain and contract, too. */
export function ecosystemAppId({ chainId, contract }: Domain, app: string): Uint8Array {
  const list = [utf8('dstack/v1/app-id'), uint64(chainId), fromHex(contract, 20), appId(app)];
  return sha256(lengthPrefixed(list)).subarray(0, 20);
}

/** What an app's identity key signs of a key. The purpose is the app's own word: nothing follows from it but what the app means by it. */
export function purposeLinkDigest(purpose: string, publicKey: Uint8Array): Uint8Array {
  return keccak256(utf8(`${purpose}:${toHex(publicKey)}`));
}

/** What the network key signs of an app's identity key (33 bytes). */
export function networkLinkDigest(domain: Domain, app: string, identity: Uint8Array): Uint8Array {
  return keccak256(utf8('dstack-kms-issued:'), ecosystemAppId(domain, app), identity);
}

/** A key of an app, and who says so: both links are r ‖ s ‖ recovery id, 65 bytes. */
export interface KeyChain {
  readonly app: string;
  readonly purpose: string;
  readonly publicKey: Uint8Array;
  readonly chain: readonly Uint8Array[];
}

/**
 * The address of the network key by whose word it is a key of that app: to be compared with the contract's `networkKey`.
 * @throws SIGNATURE_INVALID
 */
export function signerOfKeyChain(domain: Domain, { app, purpose, publicKey, chain }: KeyChain): Address {
  const [purposeLink, networkLink] = chain;
  if (purposeLink === undefined || networkLink === undefined || chain.length !== 2)
    throw new DstackError('SIGNATURE_INVALID', `a chain has 2 links, not ${chain.length}`);
  const identity = recoverPublicKey(purposeLinkDigest(purpose, publicKey), purposeLink);
  return addressOfKey(recoverPublicKey(networkLinkDigest(domain, app, identity), networkLink));
}
