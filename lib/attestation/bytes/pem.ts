/** PEM (RFC 7468) in the one exact form that quotes and collateral carry, so that a chain has one encoding only. */
import { AttestationError, type ChainName } from '../errors.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----\n';
const COLUMNS = 64;
const NEWLINE = 0x0a;
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
  const body = block.slice(BEGIN.length, -END.length);
  const der = new Uint8Array(Buffer.from(body, 'base64'));
  // Encoding again is the whole check: other line lengths and loose base64 fail it.
  const base64 = toBase64(der);
  const lines = Math.ceil(base64.length / COLUMNS);
  let same = lines > 0 && body.length === base64.length + lines;
  for (let line = 0; same && line < lines; line++) {
    const text = base64.slice(line * COLUMNS, (line + 1) * COLUMNS);
    const start = line * (COLUMNS + 1);
    same = body.startsWith(text, start) && body.charCodeAt(start + text.length) === NEWLINE;
  }
  if (!same) throw notPem(chain);
  return der;
}

/** One certificate as PEM with 64 columns and a final newline. */
export const encodePem = (der: Uint8Array): string => encodePemBlock('CERTIFICATE', der);

/** The same with another label, such as `CERTIFICATE REQUEST` (RFC 7468, section 7). */
export function encodePemBlock(label: string, der: Uint8Array): string {
  const lines = toBase64(der).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

function toBase64(der: Uint8Array): string {
  return Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64');
}

function notPem(chain: ChainName): AttestationError {
  return new AttestationError(
    `${chain}_FORMAT`,
    'the chain is not PEM with 64 columns and nothing in between',
  );
}
