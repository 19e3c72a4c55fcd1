/** HPKE as the project uses it, by no code of ours or of the HPKE library: Node's own ML-KEM and X25519, and RFC 9180 spelled out. */
import {
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  decapsulate,
  diffieHellman,
} from 'node:crypto';
import { utf8 } from './encoding.ts';

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
const x25519Private = (scalar: Uint8Array) =>
  createPrivateKey({
    // PKCS #8 of RFC 8410 around the scalar: Node finds the public part.
    key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), scalar]),
    format: 'der',
    type: 'pkcs8',
  });
export const x25519Public = (scalar: Uint8Array): Uint8Array =>
  Buffer.from(String(createPublicKey(x25519Private(scalar)).export({ format: 'jwk' }).x), 'base64url');

/**
 * What is in sealed bytes, `enc ‖ ciphertext ‖ tag`.
 * @param seed the X-Wing decapsulation key
 */
export function openedByNode(
  seed: Uint8Array,
  publicKey: Uint8Array,
  sealed: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array = new Uint8Array(),
): Uint8Array {
  const expanded = createHash('shake256', { outputLength: 96 }).update(seed).digest();
  const [ctM, ctX] = [sealed.subarray(0, 1088), sealed.subarray(1088, 1120)];
  const mlKem = createPrivateKey({
    key: {
      kty: 'AKP',
      alg: 'ML-KEM-768',
      pub: base64(publicKey.subarray(0, 1184)),
      priv: base64(expanded.subarray(0, 64)),
    },
    format: 'jwk',
  });
  const ssM = decapsulate(mlKem, ctM);
  const ssX = diffieHellman({
    privateKey: x25519Private(expanded.subarray(64)),
    publicKey: createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: base64(ctX) }, format: 'jwk' }),
  });
  const shared = createHash('sha3-256')
    .update(Buffer.concat([ssM, ssX, ctX, publicKey.subarray(1184), utf8('\\.//^\\')]))
    .digest();
  const { key, nonce } = keySchedule(shared, info);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAuthTag(sealed.subarray(-16)).setAAD(aad);
  return Buffer.concat([decipher.update(sealed.subarray(1120, -16)), decipher.final()]);
}

/** RFC 9180, 5.1, base mode: X-Wing (0x647a), HKDF-SHA256 (1), AES-256-GCM (2). */
function keySchedule(shared: Uint8Array, info: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const suite = Buffer.concat([utf8('HPKE'), Uint8Array.from([0x64, 0x7a, 0, 1, 0, 2])]);
  const hmac = (key: Uint8Array, ...parts: Uint8Array[]) =>
    createHmac('sha256', key).update(Buffer.concat(parts)).digest();
  const extract = (salt: Uint8Array, label: string, input: Uint8Array) =>
    hmac(salt, utf8('HPKE-v1'), suite, utf8(label), input);
  const none = new Uint8Array();
  const context = Buffer.concat([
    Uint8Array.from([0]),
    extract(none, 'psk_id_hash', none),
    extract(none, 'info_hash', info),
  ]);
  const expand = (label: string, length: number) =>
    hmac(
      extract(shared, 'secret', none),
      Uint8Array.from([0, length]),
      utf8('HPKE-v1'),
      suite,
      utf8(label),
      context,
      Uint8Array.from([1]),
    ).subarray(0, length);
  return { key: expand('key', 32), nonce: expand('base_nonce', 12) };
}
