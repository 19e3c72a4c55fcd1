/** PEM (RFC 7468) in the one exact form that quotes and collateral carry, so that a chain has one encoding only. */
import { AttestationError, type ChainName } from './errors.ts';

const BLOCK = /-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]*)-----END CERTIFICATE-----\n/g;

/** PEM text of a chain; more than any has. */
export const MAX_CHAIN_CHARACTERS = 16_384;

/**
 * The DER certificates of a PEM chain. One NUL after the last line is allowed: most platforms count the terminator of the
 * C string.
 * @throws AttestationError `${chain}_FORMAT`
 */
export function decodePemChain(text: string, chain: ChainName): Uint8Array[] {
  const body = text.endsWith('\0') ? text.slice(0, -1) : text;
  const certificates =
    body.length > MAX_CHAIN_CHARACTERS
      ? []
      : [...body.matchAll(BLOCK)].map(([, base64 = '']) => new Uint8Array(Buffer.from(base64, 'base64')));
  // Encoding again is the whole check: text between blocks, other line lengths and loose base64 all fail it.
  if (certificates.map(encodePem).join('') !== body) {
    throw new AttestationError(
      `${chain}_FORMAT`,
      'the chain is not PEM with 64 columns and nothing in between',
    );
  }
  return certificates;
}

/** One certificate as PEM with 64 columns and a final newline. */
export function encodePem(der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64');
  let text = '-----BEGIN CERTIFICATE-----\n';
  for (let start = 0; start < base64.length; start += 64) text += `${base64.slice(start, start + 64)}\n`;
  return `${text}-----END CERTIFICATE-----\n`;
}
