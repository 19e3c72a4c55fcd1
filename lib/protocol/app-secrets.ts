/**
 * Secrets of apps: values that an owner seals to one app, for nodes of the network to open.
 *
 * HPKE base mode (RFC 9180) over X-Wing, HKDF-SHA256 and AES-256-GCM, as in sealing.ts. Each app has a key pair for it, derived
 * from the network's secret (keys.ts). The network key signs the public half (typed-data.ts, `SealingKey`), and whoever seals
 * checks that against the contract's network key: a host could give out a key of its own.
 *
 * Anybody can seal to a public key, so an envelope says nothing of who made it. The manifest does, which has its SHA-256
 * (manifest.ts): a host can neither make one nor bring back an older one.
 *
 * An envelope is JSON. What it says of itself only makes refusals clear: it opens for the network, app and name that a node
 * expects and no others, because AAD is the list of "dstack/v1/app-secret", chain id, contract, app, name, and HPKE's `info` the
 * first of these words. The plaintext is the value's length (4 bytes, big-endian), the value, and zeros up to a multiple of 256
 * bytes: how long a password is, is nobody's business. Vectors: testdata/protocol/app-secrets.json.
 */
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';
import { type Static, Type } from 'typebox';
import { fromHex, lengthPrefixed, sha256, toHex, uint64, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { type Address, sameAddress } from './hex.ts';
import { appId } from './manifest.ts';
import {
  Address0x,
  AppName,
  Compact,
  Count,
  check,
  HexOf,
  HexUpTo,
  parseJson,
  SecretName,
  Strict,
} from './schema.ts';
import { ENCAPSULATION_BYTES, KEM_PUBLIC_KEY_BYTES } from './sealing.ts';
import type { CompactSignature } from './secp256k1.ts';
import { signerOf } from './signed-messages.ts';
import { ENVELOPE_MAX_BYTES, SECRET_MAX_BYTES } from './sockets.ts';
import { type Domain, sealingKeyDigest } from './typed-data.ts';

const LABEL = utf8('dstack/v1/app-secret');
const PADDED_TO = 256;
const LENGTH_BYTES = 4;

/** Binary fields are lower-case hex without 0x. */
export const EnvelopeSchema = Strict({
  type: Type.Literal('app-secret'),
  version: Type.Literal(1),
  chainId: Count,
  contract: Address0x,
  app: AppName,
  name: SecretName,
  /** HPKE's encapsulated key, and what is under it. */
  encapsulation: HexOf(ENCAPSULATION_BYTES),
  ciphertext: HexUpTo(ENVELOPE_MAX_BYTES / 2),
});
export type Envelope = Static<typeof EnvelopeSchema>;

/** What an owner asks of a node, or of a relay, which asks its node. */
export const SealingKeyRequestSchema = Strict({ app: AppName });
export const SealingKeyMessageSchema = Strict({
  type: Type.Literal('sealing-key'),
  chainId: Count,
  contract: Address0x,
  app: AppName,
  publicKey: HexOf(KEM_PUBLIC_KEY_BYTES),
  /** By the network key, over the EIP-712 digest of `SealingKey`. */
  signature: Compact,
});
export type SealingKeyMessage = Static<typeof SealingKeyMessageSchema>;

/** Whose a secret is, and which. */
export interface SecretPlace extends Domain {
  readonly app: string;
  readonly name: string;
}

const suite = () => new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });

/** The public half of an app's key pair. @param key of `appSecretsKey`, 32 bytes */
export async function sealingPublicKey(key: Uint8Array): Promise<Uint8Array> {
  const kem = new XWing();
  const { publicKey } = await kem.generateKeyPairDerand(new Uint8Array(key));
  return new Uint8Array(await kem.serializePublicKey(publicKey));
}

/** The digest that the network key signs for it. */
export function sealingKeyStatement(domain: Domain, app: string, publicKey: Uint8Array): Uint8Array {
  return sealingKeyDigest(domain, { app: appId(app), publicKeyHash: sha256(publicKey) });
}

/**
 * The key to seal an app's secrets to, out of what somebody says that it is.
 * @param expected the app, its network, and the network key that its contract has
 * @throws SEALING_KEY when the network key has signed no such thing
 */
export function requireSealingKey(
  said: SealingKeyMessage,
  { app, networkKey, ...domain }: Domain & { readonly app: string; readonly networkKey: Address },
): Uint8Array {
  const publicKey = fromHex(said.publicKey, KEM_PUBLIC_KEY_BYTES);
  // Nothing recovers to the zero address, which a contract without a network key has.
  if (isSignedBy(networkKey, sealingKeyStatement(domain, app, publicKey), said.signature)) return publicKey;
  throw new DstackError(
    'SEALING_KEY',
    `the network key ${networkKey} has not signed this key for secrets of ${app}: whoever gave it out may want to read them; ask another relay`,
  );
}

function isSignedBy(signer: Address, digest: Uint8Array, signature: CompactSignature): boolean {
  try {
    return sameAddress(signerOf(digest, signature), signer);
  } catch {
    return false;
  }
}

/**
 * The envelope's bytes, other ones each time.
 * @param publicKey as `requireSealingKey` gives it
 * @throws SECRET_NAME, SECRET_TOO_LARGE, KEM_KEY
 */
export async function sealSecret(
  value: Uint8Array,
  place: SecretPlace,
  publicKey: Uint8Array,
): Promise<Uint8Array> {
  check(SecretName, place.name, 'SECRET_NAME', `the name of a secret, ${JSON.stringify(place.name)}`);
  if (value.length > SECRET_MAX_BYTES) {
    throw new DstackError(
      'SECRET_TOO_LARGE',
      `a secret has at most ${SECRET_MAX_BYTES} bytes, this one has ${value.length}`,
    );
  }
  const cipher = suite();
  try {
    const context = await cipher.createSenderContext({
      recipientPublicKey: await cipher.kem.deserializePublicKey(buffer(publicKey)),
      info: buffer(LABEL),
    });
    const ciphertext = await context.seal(buffer(padded(value)), buffer(boundTo(place)));
    const { chainId, contract, app, name } = place;
    const envelope: Envelope = {
      type: 'app-secret',
      version: 1,
      chainId,
      contract,
      app,
      name,
      encapsulation: toHex(new Uint8Array(context.enc)),
      ciphertext: toHex(new Uint8Array(ciphertext)),
    };
    return utf8(JSON.stringify(envelope));
  } catch (cause) {
    throw new DstackError('KEM_KEY', 'nothing can be sealed to this key', { cause });
  }
}

/** @throws SECRET_MALFORMED */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new DstackError('SECRET_MALFORMED', "the secret's envelope is not text in UTF-8", { cause });
  }
  return parseJson(EnvelopeSchema, text, 'SECRET_MALFORMED', "the secret's envelope", ENVELOPE_MAX_BYTES);
}

/** That an envelope says that it is for this place. @throws SECRET_WRONG_NETWORK, SECRET_WRONG_APP, SECRET_WRONG_NAME */
export function requirePlace(envelope: Envelope, place: SecretPlace): void {
  const { chainId, contract, app, name } = envelope;
  if (chainId !== place.chainId || !sameAddress(contract, place.contract)) {
    throw new DstackError(
      'SECRET_WRONG_NETWORK',
      `the secret was sealed for contract ${contract} on chain ${chainId}, not for ${place.contract} on ${place.chainId}`,
    );
  }
  if (app !== place.app)
    throw new DstackError('SECRET_WRONG_APP', `the secret was sealed for ${app}, not for ${place.app}`);
  if (name !== place.name)
    throw new DstackError('SECRET_WRONG_NAME', `the secret was sealed as ${name}, not as ${place.name}`);
}

/**
 * The value in an envelope.
 * @param key of `appSecretsKey`, of the app that `place` names
 * @throws SECRET_MALFORMED, SECRET_WRONG_…, SECRET_UNOPENABLE
 */
export async function openSecret(
  bytes: Uint8Array,
  place: SecretPlace,
  key: Uint8Array,
): Promise<Uint8Array> {
  const envelope = parseEnvelope(bytes);
  requirePlace(envelope, place);
  try {
    const { privateKey } = await new XWing().generateKeyPairDerand(new Uint8Array(key));
    const context = await suite().createRecipientContext({
      recipientKey: privateKey,
      enc: buffer(fromHex(envelope.encapsulation)),
      info: buffer(LABEL),
    });
    const opened = await context.open(buffer(fromHex(envelope.ciphertext)), buffer(boundTo(place)));
    return unpadded(new Uint8Array(opened));
  } catch (cause) {
    throw new DstackError(
      'SECRET_UNOPENABLE',
      `what is sealed as ${place.name} of ${place.app} does not open: it was sealed to another key, or altered`,
      { cause },
    );
  }
}

/** An envelope's AAD. */
function boundTo({ chainId, contract, app, name }: SecretPlace): Uint8Array {
  return lengthPrefixed([LABEL, uint64(chainId), fromHex(contract, 20), utf8(app), utf8(name)]);
}

function padded(value: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil((LENGTH_BYTES + value.length) / PADDED_TO) * PADDED_TO);
  new DataView(whole.buffer).setUint32(0, value.length);
  whole.set(value, LENGTH_BYTES);
  return whole;
}

function unpadded(whole: Uint8Array): Uint8Array {
  const length = new DataView(whole.buffer, whole.byteOffset, whole.length).getUint32(0);
  const value = whole.slice(LENGTH_BYTES, LENGTH_BYTES + length);
  if (value.length !== length || length > SECRET_MAX_BYTES) throw new Error('it has another length');
  return value;
}

/** A copy with an ArrayBuffer of its own, as WebCrypto's types require. */
function buffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
