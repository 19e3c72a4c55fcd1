/** PEM (RFC 7468) in the one exact form that quotes carry, so that a chain has one encoding only. */
import { AttestationError } from './errors.ts';

const BLOCK = /-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]*)-----END CERTIFICATE-----\n/g;

/**
 * The DER certificates of a PEM chain. One NUL after the last line is allowed: most platforms count the terminator of the
 * C string.
 * @throws AttestationError PCK_CHAIN_FORMAT
 */
export function decodePemChain(bytes: Uint8Array): Uint8Array[] {
  const end = bytes.at(-1) === 0 ? bytes.length - 1 : bytes.length;
  const text = Buffer.from(bytes.subarray(0, end)).toString('latin1');
  const certificates = [...text.matchAll(BLOCK)].map(
    ([, base64 = '']) => new Uint8Array(Buffer.from(base64, 'base64')),
  );
  // Encoding again is the whole check: text between blocks, other line lengths and loose base64 all fail it.
  if (certificates.map(encodePem).join('') !== text) {
    throw new AttestationError(
      'PCK_CHAIN_FORMAT',
      'the PCK chain is not PEM with 64 columns and nothing in between',
    );
  }
  return certificates;
}

/** One certificate as PEM with 64 columns and a final newline. */
export function encodePem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}
