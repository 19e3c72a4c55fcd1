/** Ed25519 keys as validators have them: the seed, or seed and public key one after the other. */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { DstackError } from '../protocol/errors.ts';
import { bech32 } from './bech32.ts';

/** DER before a raw key of 32 bytes (RFC 8410). The private one as numbers: in hex it would look like a key to whoever searches an image for keys. */
const PRIVATE = Buffer.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);
const PUBLIC = Buffer.from('302a300506032b6570032100', 'hex');
/** Before a public key in Amino, as Cosmos' bech32 has it. */
const AMINO_PREFIX = Buffer.from('1624de6420', 'hex');

export interface Ed25519Key {
  readonly publicKey: Uint8Array;
  /** 64 bytes; the same for the same message. */
  sign(message: Uint8Array): Uint8Array;
}

/** @param seed 32 bytes (RFC 8032, section 5.1.5) */
export function ed25519Key(seed: Uint8Array): Ed25519Key {
  if (seed.length !== 32)
    throw new DstackError('KEY_ED25519', `an Ed25519 seed has 32 bytes, not ${seed.length}`);
  const key: KeyObject = createPrivateKey({
    key: Buffer.concat([PRIVATE, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const publicKey = new Uint8Array(
    createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32),
  );
  return { publicKey, sign: (message) => new Uint8Array(sign(null, message, key)) };
}

export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const key = createPublicKey({ key: Buffer.concat([PUBLIC, publicKey]), format: 'der', type: 'spki' });
  return verify(null, message, key, signature);
}

/** A validator's address: the first 20 bytes of the key's SHA-256, in upper-case hex. */
export function addressOf(publicKey: Uint8Array): string {
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 40).toUpperCase();
}

/** As CometBFT's JSON has it: what `create-validator --pubkey` of most chains and genesis files take. */
export function cometJson(publicKey: Uint8Array): { readonly type: string; readonly value: string } {
  return { type: 'tendermint/PubKeyEd25519', value: Buffer.from(publicKey).toString('base64') };
}

/** As `…valconspub1…`, with any prefix. */
export function bech32PublicKey(publicKey: Uint8Array, prefix: string): string {
  return bech32(prefix, new Uint8Array(Buffer.concat([AMINO_PREFIX, publicKey])));
}

/** As `…valcons1…`, with any prefix. */
export function bech32Address(publicKey: Uint8Array, prefix: string): string {
  return bech32(prefix, new Uint8Array(Buffer.from(addressOf(publicKey), 'hex')));
}
