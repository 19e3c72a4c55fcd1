/** Private keys that nobody knows beforehand, by the structures that they are stored in: PEM, DER, JWK, OpenSSH. */
import { createPrivateKey } from 'node:crypto';

/** A PEM block with a body, also one inside a string whose line breaks are escaped (RFC 7468). */
const PEM =
  /-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----(\r|\n|\\r|\\n|\s)+([A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/=]{16}/;
/** A private JWK (RFC 7517): a key type, and a private exponent or scalar not far from it. */
const JWK =
  /"kty\\?"\s*:[^{}]{0,2000}"d\\?"\s*:\s*\\?"[A-Za-z0-9_-]{20}|"d\\?"\s*:\s*\\?"[A-Za-z0-9_-]{20}[^{}]{0,2000}"kty\\?"\s*:/;

/** How the DER of a P-256, secp256k1, Ed25519 or RSA key begins where it is written as text without PEM's lines. */
const TEXT_STARTS: readonly [string, string][] = [
  ['MHcCAQEEI', 'SEC1 in base64'],
  ['MHQCAQEEI', 'SEC1 in base64'],
  ['MIGHAgEAMBMGByqGSM49', 'PKCS #8 in base64'],
  ['MIGEAgEAMBAGByqGSM49', 'PKCS #8 in base64'],
  ['MC4CAQAwBQYDK2Vw', 'PKCS #8 of Ed25519 in base64'],
  ['MC4CAQAwBQYDK2Vu', 'PKCS #8 of X25519 in base64'],
  ['30770201010420', 'SEC1 in hex'],
  ['30740201010420', 'SEC1 in hex'],
  ['308187020100301306072a8648ce3d0201', 'PKCS #8 in hex'],
  ['308184020100301006072a8648ce3d0201', 'PKCS #8 in hex'],
  ['302e020100300506032b65', 'PKCS #8 of Ed25519 or X25519 in hex'],
  ['openssh-key-v1\0', 'an OpenSSH key'],
];

/** What follows the outer header of a DER structure worth parsing (RFC 5958, RFC 5915, RFC 8017). */
const DER_INNER: readonly [Buffer, 'pkcs8' | 'sec1' | 'pkcs1'][] = [
  [Buffer.from('02010030', 'hex'), 'pkcs8'],
  [Buffer.from('02010130', 'hex'), 'pkcs8'],
  [Buffer.from('0201010420', 'hex'), 'sec1'],
  [Buffer.from('0201010430', 'hex'), 'sec1'],
  [Buffer.from('0201010442', 'hex'), 'sec1'],
  [Buffer.from('0201000281', 'hex'), 'pkcs1'],
  [Buffer.from('0201000282', 'hex'), 'pkcs1'],
];

/** Names what was found, without any of its content. */
export function* keyStructures(bytes: Buffer): Generator<string> {
  if (bytes.includes('PRIVATE KEY-----') && PEM.test(bytes.toString('latin1'))) yield 'a private key in PEM';
  if (bytes.includes('"kty') && JWK.test(bytes.toString('latin1'))) yield 'a private JWK';
  for (const [start, name] of TEXT_STARTS) {
    const spellings = name.endsWith('hex') ? [start, start.toUpperCase()] : [start];
    if (spellings.some((spelling) => bytes.includes(spelling))) yield name;
  }
  for (const [inner, type] of DER_INNER) {
    for (let at = bytes.indexOf(inner); at >= 0; at = bytes.indexOf(inner, at + 1)) {
      if (isPrivateKey(bytes, at, type)) yield `a private key in DER (${type})`;
    }
  }
}

/** @param inner where the content of the outer SEQUENCE begins */
function isPrivateKey(bytes: Buffer, inner: number, type: 'pkcs8' | 'sec1' | 'pkcs1'): boolean {
  // A header has two bytes, or three or four when the length does not fit into seven bits.
  for (const header of [2, 3, 4]) {
    const at = inner - header;
    if (at < 0 || bytes[at] !== 0x30) continue;
    const long = header - 2;
    if (header > 2 && bytes[at + 1] !== 0x80 + long) continue;
    const length = header === 2 ? bytes[at + 1]! : bytes.readUIntBE(at + 2, long);
    try {
      createPrivateKey({ key: bytes.subarray(at, inner + length), format: 'der', type });
      return true;
    } catch {
      // It only looked like a key.
    }
  }
  return false;
}
