/**
 * The request that a certificate authority signs (PKCS #10, RFC 2986): the network's TLS key, and names. Made from the key alone
 * and signed deterministically (RFC 6979), so every node of a network makes the same bytes.
 */
import { p256 } from '@noble/curves/nist.js';
import { expectTag, readChildren, readDer, readOid, TAG } from '../attestation/bytes/der.ts';
import { der, derBits, derInteger, derOid, derSequence, derText } from '../attestation/bytes/der-writer.ts';
import { ECDSA_WITH_SHA256 } from '../attestation/certificates/certificate.ts';
import { AttestationError } from '../attestation/errors.ts';
import { DstackError } from '../protocol/errors.ts';
import { p256PublicKey } from '../protocol/site-evidence.ts';

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const SUBJECT_ALT_NAME = '2.5.29.17';
const DNS_NAME = 0x82;

/**
 * DER of the request.
 * @param privateKey P-256 scalar, 32 bytes big-endian
 * @param names DNS names in lower case; the caller has checked that they are the network's
 */
export function signingRequest(privateKey: Uint8Array, names: readonly string[]): Uint8Array {
  const altNames = derSequence(...names.map((name) => derText(DNS_NAME, name)));
  const extension = derSequence(derOid(SUBJECT_ALT_NAME), der(TAG.octetString, altNames));
  const attribute = derSequence(derOid(EXTENSION_REQUEST), der(TAG.set, derSequence(extension)));
  const body = derSequence(
    derInteger(Uint8Array.of(0)),
    // No subject: authorities take the names from the extension, and a common name has 64 characters at most.
    derSequence(),
    p256PublicKey(privateKey),
    der(TAG.context0, attribute),
  );
  const signature = p256.sign(body, privateKey, { format: 'der', lowS: false });
  return derSequence(body, ECDSA_WITH_SHA256, derBits(signature));
}

export interface SigningRequest {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly names: readonly string[];
}

/**
 * Key and names of such a request, of exactly the form above. Its signature is not checked: whoever reads it goes by where it
 * came from.
 * @throws CSR_MALFORMED
 */
export function readSigningRequest(bytes: Uint8Array): SigningRequest {
  try {
    const [body] = readChildren(readDer(bytes, TAG.sequence));
    const [, , key, attributes] = readChildren(expectTag(body, TAG.sequence));
    const [attribute] = readChildren(expectTag(attributes, TAG.context0));
    const [type, values] = readChildren(expectTag(attribute, TAG.sequence));
    const [extensions] = readChildren(expectTag(values, TAG.set));
    const [extension] = readChildren(expectTag(extensions, TAG.sequence));
    const [name, value] = readChildren(expectTag(extension, TAG.sequence));
    if (readOid(type) === EXTENSION_REQUEST && readOid(name) === SUBJECT_ALT_NAME) {
      const list = readDer(expectTag(value, TAG.octetString).content, TAG.sequence);
      const names = readChildren(list).map((child) =>
        Buffer.from(expectTag(child, DNS_NAME).content).toString('latin1'),
      );
      const publicKey = expectTag(key, TAG.sequence).raw;
      if (names.length > 0) return { publicKey, names };
    }
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
  }
  throw new DstackError('CSR_MALFORMED', 'the certificate request is not one of a dstack node');
}
