/**
 * What anybody can seal to an app's enclave, and it alone can open: HPKE base mode (RFC 9180) over X-Wing, HKDF-SHA256 and AES-256-GCM. Its key follows
 * from a key of the app's, so every node of the network can open it.
 *
 * A sealed text says nothing of who made it, and hides no length. `bound` is what it is for: whoever copies it to another place has
 * something that does not open there.
 */
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';
import { fromHex, to0x, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import type { Hex } from '../../protocol/hex.ts';
import { ENCAPSULATION_BYTES } from '../../protocol/sealing.ts';
import type { Keys } from './enclave.ts';

const INFO = utf8('dstack/v1/app-sealed');
/** A copy on a plain buffer, as WebCrypto wants it. */
const buffer = (bytes: Uint8Array): ArrayBuffer => new Uint8Array(bytes).buffer;
const suite = () => new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
const pairOf = async (keys: Keys, tag: string) => {
  const { key } = await keys.key({ tag, type: 'raw' });
  return new XWing().generateKeyPairDerand(fromHex(key, 32));
};

/** What is sealed to: 1,216 bytes, 0x hex. Say it by an attested response, or whoever seals has it from the host. @param tag of the key, for nothing else */
export async function sealingPublicKey(keys: Keys, tag: string): Promise<Hex> {
  const { publicKey } = await pairOf(keys, tag);
  return to0x(new Uint8Array(await new XWing().serializePublicKey(publicKey)));
}

/** 1,136 bytes more than the text. @throws KEM_KEY */
export async function seal(publicKey: Hex, text: Uint8Array, bound: Uint8Array): Promise<Hex> {
  const cipher = suite();
  try {
    const context = await cipher.createSenderContext({
      recipientPublicKey: await cipher.kem.deserializePublicKey(buffer(fromHex(publicKey.slice(2)))),
      info: buffer(INFO),
    });
    const sealed = new Uint8Array(await context.seal(buffer(text), buffer(bound)));
    return to0x(Uint8Array.from([...new Uint8Array(context.enc), ...sealed]));
  } catch (cause) {
    throw new DstackError('KEM_KEY', 'nothing can be sealed to this key', { cause });
  }
}

/** @throws SEALED_UNOPENABLE for what was sealed to another key or for something else, or altered */
export async function open(keys: Keys, tag: string, sealed: Hex, bound: Uint8Array): Promise<Uint8Array> {
  const bytes = fromHex(sealed.slice(2));
  const { privateKey } = await pairOf(keys, tag);
  try {
    const context = await suite().createRecipientContext({
      recipientKey: privateKey,
      enc: buffer(bytes.subarray(0, ENCAPSULATION_BYTES)),
      info: buffer(INFO),
    });
    return new Uint8Array(await context.open(buffer(bytes.subarray(ENCAPSULATION_BYTES)), buffer(bound)));
  } catch (cause) {
    const why = 'it was sealed to another key or for something else, or altered';
    throw new DstackError('SEALED_UNOPENABLE', `a sealed text does not open: ${why}`, { cause });
  }
}
