/** What an owner gives an authority, to be certified: its key, who it says it is, and a signature that shows it has the key. JSON. */
import { type Static, Type } from 'typebox';
import { fromHex, lengthPrefixed, toHex, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { HexOf, parseJson, Strict } from '../schema.ts';
import {
  isSignedStrictly,
  publicKeyOfSeed,
  requireCanonicalKey,
  requireCanonicalSignature,
  signStrictly,
} from './strict-ed25519.ts';

export const MAX_REQUEST_BYTES = 4_096;

const CertificateRequest = Strict({
  version: Type.Literal(1),
  owner: HexOf(32),
  /** For the person who decides; no record has it. */
  subject: Type.String({ maxLength: 256 }),
  signature: HexOf(64),
});
export type CertificateRequest = Static<typeof CertificateRequest>;

export function makeRequest(ownerSeed: Uint8Array, subject: string): CertificateRequest {
  const owner = publicKeyOfSeed(ownerSeed);
  return {
    version: 1,
    owner: toHex(owner),
    subject,
    signature: toHex(signStrictly(ownerSeed, message(owner, subject))),
  };
}

/** @throws RECORD_REQUEST */
export function parseRequest(text: string): CertificateRequest {
  const request = parseJson(CertificateRequest, text, 'RECORD_REQUEST', 'the request', MAX_REQUEST_BYTES);
  const [owner, signature] = [fromHex(request.owner), fromHex(request.signature)];
  requireCanonicalKey(owner, 'the owner');
  requireCanonicalSignature(signature, 'the signature');
  if (isSignedStrictly(message(owner, request.subject), signature, owner)) return request;
  throw new DstackError(
    'RECORD_REQUEST',
    'the request is not signed by the owner that it names; have it made again',
  );
}

function message(owner: Uint8Array, subject: string): Uint8Array {
  return lengthPrefixed([utf8('dstack/v1/record-certificate-request'), owner, utf8(subject)]);
}
