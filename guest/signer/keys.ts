/**
 * The keys that the signer uses: a chain's own, derived from the network's secret by the chain's id or imported and kept in the store
 * under a seal of the network's; and the one that it shows to nodes.
 *
 * All are pinned to the epoch in which they were born: a rotation changes no validator.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { type Ed25519Key, ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { deriveKey, signerIdentity, signerSeed } from '../../lib/protocol/keys.ts';
import { Count, HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';
import type { ChainConfig } from './config.ts';
import type { Records } from './records.ts';

const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: 16 } as const;

/** The network's secret of the epoch in which the signer's use of it was born. */
export interface SignerSecret {
  readonly secret: Uint8Array;
  readonly epoch: number;
}

const Sealed = Strict({ version: Type.Literal(1), epoch: Count, nonce: HexOf(12), sealed: HexOf(48) });

/** The seed of a chain's key. */
export function networkSeed({ secret, epoch }: SignerSecret, chainId: string): Uint8Array {
  return signerSeed(secret, epoch, chainId);
}

/** What nodes see of the signer over SecretConnection. */
export function identityKey({ secret, epoch }: SignerSecret): Ed25519Key {
  return ed25519Key(signerIdentity(secret, epoch));
}

/** What a chain is signed with, and what its nodes see of the connection. */
export interface ChainKeys {
  readonly key: Ed25519Key;
  readonly identity: Ed25519Key;
}

/** Where the signer has its keys from. */
export type KeySource = (chain: Pick<ChainConfig, 'id' | 'key'>) => Promise<ChainKeys>;

/** From a secret that this process has. @throws KEY_NOT_IMPORTED, KEY_SEALED */
export function keysOf(secret: SignerSecret, records: Records): KeySource {
  const identity = identityKey(secret);
  return async (chain) => ({ key: ed25519Key(await seedFor(secret, chain, records)), identity });
}

/** A chain's seed, wherever it is from. @throws KEY_NOT_IMPORTED, KEY_SEALED */
export async function seedFor(
  secret: SignerSecret,
  chain: Pick<ChainConfig, 'id' | 'key'>,
  records: Records,
): Promise<Uint8Array> {
  if (chain.key === 'network') return networkSeed(secret, chain.id);
  const stored = await records.read(sealedKey(chain.id));
  if (stored === undefined) {
    throw new DstackError(
      'KEY_NOT_IMPORTED',
      `the key of chain ${chain.id} was not imported yet: dstack signer import`,
    );
  }
  return unseal(secret, chain.id, stored.value);
}

/** Where an imported key is in the store. */
export function sealedKey(chainId: string): string {
  return `key/${chainId}`;
}

/** A seed that only this network can open again, and only for this chain. */
export function seal(secret: SignerSecret, chainId: string, seed: Uint8Array): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv(CIPHER, sealingKey(secret, chainId), nonce, OPTIONS);
  const sealed = Buffer.concat([cipher.update(seed), cipher.final(), cipher.getAuthTag()]);
  const record: Static<typeof Sealed> = {
    version: 1,
    epoch: secret.epoch,
    nonce: toHex(nonce),
    sealed: toHex(sealed),
  };
  return JSON.stringify(record);
}

/** @throws KEY_SEALED for what another network sealed, or for another chain */
export function unseal(secret: SignerSecret, chainId: string, text: string): Uint8Array {
  const { nonce, sealed } = parseJson(Sealed, text, 'KEY_SEALED', 'the sealed key', 1024);
  const bytes = fromHex(sealed, 48);
  const decipher = createDecipheriv(CIPHER, sealingKey(secret, chainId), fromHex(nonce, 12), OPTIONS);
  decipher.setAuthTag(bytes.subarray(32));
  try {
    return new Uint8Array(Buffer.concat([decipher.update(bytes.subarray(0, 32)), decipher.final()]));
  } catch (cause) {
    throw new DstackError(
      'KEY_SEALED',
      `the imported key of chain ${chainId} was sealed with another secret`,
      { cause },
    );
  }
}

function sealingKey({ secret, epoch }: SignerSecret, chainId: string): Uint8Array {
  return deriveKey(secret, epoch, 'signer', [utf8('import'), utf8(chainId)]);
}
