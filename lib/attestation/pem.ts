/** PEM (RFC 7468) in the one exact form that quotes and collateral carry, so that a chain has one encoding only. */
import { AttestationError, type ChainName } from './errors.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----\n';
const END = '-----END CERTIFICATE-----\n';

/** PEM text of a chain; more than any has. */
export const MAX_CHAIN_CHARACTERS = 16_384;

/**
 * The blocks of a PEM chain, each from BEGIN to END, as they are. One NUL after the last line is allowed: most platforms
 * count the terminator of the C string.
 * @throws AttestationError `${chain}_FORMAT` for anything before, between or after them
 */
export function splitPemChain(text: string, chain: ChainName): string[] {
  const body = text.endsWith('\0') ? text.slice(0, -1) : text;
  const blocks: string[] = [];
  for (let start = 0; start < body.length; ) {
    const end = body.indexOf(END, start);
    if (!body.startsWith(BEGIN, start) || end === -1 || body.length > MAX_CHAIN_CHARACTERS)
      throw notPem(chain);
    blocks.push(body.slice(start, end + END.length));
    start = end + END.length;
  }
  return blocks;
}

/** The certificate in one block, DER. @throws AttestationError `${chain}_FORMAT` */
export function decodePem(block: string, chain: ChainName): Uint8Array {
  const der = new Uint8Array(Buffer.from(block.slice(BEGIN.length, -END.length), 'base64'));
  // Encoding again is the whole check: other line lengths and loose base64 fail it.
  if (encodePem(der) !== block) throw notPem(chain);
  return der;
}

/** One certificate as PEM with 64 columns and a final newline. */
export function encodePem(der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64');
  return `${BEGIN}${base64.replace(/.{64}(?=.)/g, '$&\n')}\n${END}`;
}

function notPem(chain: ChainName): AttestationError {
  return new AttestationError(
    `${chain}_FORMAT`,
    'the chain is not PEM with 64 columns and nothing in between',
  );
}
